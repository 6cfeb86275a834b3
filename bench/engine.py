"""The model server beside the bare llama.cpp library: tokens a second of one stream and of four together.

The bare side is `crates/engine/examples/bare_decode.rs`: the library's own loop with the same model, threads, prompt and
number of tokens, without server, sampling chain or text. Jarvis' side is timed by a client of its HTTP interface,
streaming, from the first token to the last. Of four streams the time is counted in which all four are under way: from
the moment the last has its first token to the end of the first that ends. Both sides take turns.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import time
from pathlib import Path

import harness
from harness import Server

MODEL = "smollm2:135m"
WEIGHTS = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
TOKENS = 256
# Turns of bare loop and engine in one repetition, of which the middle one counts; odd.
ROUNDS = 3
THREADS = 2
FLAGS = ("--threads", str(THREADS))
PROMPT = ("The town of {place} lies between two rivers, and every spring the people walk along the water to see what the "
          "winter has left behind. Here is the very long story of what they found there, told day by day, leaving "
          "nothing out. On the first day, early in the morning,")
PLACES = ("Arden", "Bergen", "Cologne", "Delft")


class Stream:
    """One streamed answer: what arrived when."""

    def __init__(self, port: int, path: str, body: dict) -> None:
        self.pieces: list[tuple[float, bytes]] = []
        self.socket = socket.create_connection(("127.0.0.1", port))
        text = json.dumps(body).encode()
        head = (f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n")
        self.sent = time.perf_counter()
        self.socket.sendall(head.encode() + text)

    def receive(self) -> bool:
        """Reads what is there; false at the end."""
        data = self.socket.recv(65536)
        if data:
            self.pieces.append((time.perf_counter(), data))
        else:
            self.socket.close()
        return bool(data)

    def records(self) -> list[tuple[float, dict]]:
        """The answer's records with the times at which they were whole; read after the end, so that decoding costs
        the server nothing."""
        arrived, whole = [], b""
        for moment, data in self.pieces:
            whole += data
            arrived.append((len(whole), moment))
        head, _, rest = whole.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"not answered: {whole[:500]!r}")
        found, position, turn = [], len(head) + 4, 0
        for line in rest.split(b"\n"):
            position += len(line) + 1
            if not line.startswith(b"{"):
                continue
            while arrived[turn][0] < min(position, len(whole)):
                turn += 1
            found.append((arrived[turn][1], json.loads(line)))
        if not found or not found[-1][1].get("done"):
            raise SystemExit(f"the answer is not whole: {found[-1:]}")
        return found


def ask(running: Server, path: str, bodies: list[dict]) -> list[Stream]:
    """Sends all requests at once and reads all answers to their ends."""
    streams = [Stream(running.port, path, body) for body in bodies]
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream.socket, selectors.EVENT_READ, stream)
        while selector.get_map():
            for key, _ in selector.select():
                if not key.data.receive():
                    selector.unregister(key.fd)
    return streams


def rate(streams: list[Stream], least: int) -> float:
    """Tokens a second while all of the streams are under way; each must have at least `least` tokens."""
    answers = [stream.records() for stream in streams]
    moments, weights = [], []
    for answer in answers:
        count = answer[-1][1]["eval_count"]
        if count < least:
            raise SystemExit(f"the answer has {count} tokens, fewer than {least}")
        moments.append([moment for moment, record in answer if not record["done"]])
        # A character of several tokens comes as one record.
        weights.append(count / len(moments[-1]))
    begin = max(arrived[0] for arrived in moments)
    end = min(arrived[-1] for arrived in moments)
    tokens = sum(weight * sum(begin < moment <= end for moment in arrived)
                 for arrived, weight in zip(moments, weights, strict=True))
    return tokens / (end - begin)


def generate(running: Server, count: int, tokens: int, sampling: dict) -> float:
    """Tokens a second of `count` streams together. Greedy answers must not end early; drawn ones may, a little."""
    bodies = [{"model": MODEL, "prompt": PROMPT.format(place=place), "raw": True, "stream": True,
               "options": {"num_predict": tokens, **sampling}} for place in PLACES[:count]]
    least = tokens if sampling.get("temperature") == 0 else tokens // 4
    return rate(ask(running, "/api/generate", bodies), least)


def bare(options, sequences: int, layout: str) -> float:
    """Tokens a second of the library's own loop."""
    prompt = PROMPT.format(place=PLACES[0])
    command = [options.bare, options.weights, str(THREADS), str(sequences), str(options.tokens), layout, prompt]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr}")
    measured = json.loads(done.stdout)
    return measured["tokens"] / measured["seconds"]


def conversation(number: int) -> tuple[list[dict], str]:
    """The first turn of a conversation of about 1,000 tokens that begins like no other, and the second question."""
    days = (f"On day {day} of journey {number} the travellers counted {day * 7 + number} boats on the river and wrote "
            f"down the weather." for day in range(1, 36))
    report = f"Report {number}. " + " ".join(days)
    return [{"role": "user", "content": f"{report} Say in a few words what this is about."}], "And how many days was it?"


def second_turn(running: Server, number: int) -> dict:
    """Time to the first token of a conversation's first and second turn."""
    messages, question = conversation(number)
    measured = {}
    for turn in ("first", "second"):
        body = {"model": MODEL, "messages": messages, "stream": True, "options": {"num_predict": 24, "temperature": 0}}
        [stream] = ask(running, "/api/chat", [body])
        records = stream.records()
        measured[f"{turn}_seconds"] = records[0][0] - stream.sent
        measured[f"{turn}_prompt_tokens"] = records[-1][1]["prompt_eval_count"]
        said = "".join(record["message"]["content"] for _, record in records)
        messages += [{"role": "assistant", "content": said}, {"role": "user", "content": question}]
    return measured


def repetition(options, number: int) -> dict:
    """Everything once, the two sides in turns; the engine is started anew, so that nothing lies in its cache."""
    greedy, usual = {"temperature": 0, "repeat_penalty": 1}, {"seed": number}
    measured: dict = {"busy_before": harness.quiet(options.patience)}
    with harness.data_directory(options.models) as data, harness.jarvis(options.jarvis, data, "engine", *FLAGS) as ours:
        ours.wait_healthy()
        generate(ours, 1, 8, greedy)
        for count in (1, 4):
            # Nearer to each other than a whole repetition: the machine changes its pace by a fifth within a minute.
            rounds = [(bare(options, count, "unified"), generate(ours, count, options.tokens, greedy))
                      for _ in range(ROUNDS)]
            pair = sorted(rounds, key=lambda pair: pair[1] / pair[0])[ROUNDS // 2]
            measured[f"rounds_{count}"] = rounds
            measured[f"bare_{count}"], measured[f"jarvis_{count}"] = pair
        measured["bare_4_streams"] = bare(options, 4, "streams")
        for count in (1, 4):
            measured[f"jarvis_{count}_usual"] = generate(ours, count, options.tokens, usual)
        for conversations in range(3):
            measured["with_reuse"] = second_turn(ours, 10 * number + conversations)
        measured["jarvis_1_beside"] = generate(ours, 1, options.tokens, greedy)
    with (
        harness.data_directory(options.models) as data,
        harness.jarvis(options.jarvis, data, "engine", *FLAGS, "--no-prefix-reuse") as fresh,
    ):
        fresh.wait_healthy()
        generate(fresh, 1, 8, greedy)
        measured["without_reuse"] = second_turn(fresh, 10 * number)
    return measured


def main() -> None:
    parser = harness.arguments(__doc__, repetitions=7)
    parser.add_argument("--bare", type=Path, default=harness.TARGET / "release" / "examples" / "bare_decode")
    parser.add_argument("--tokens", type=int, default=TOKENS)
    options = parser.parse_args()
    options.weights = options.models / "blobs" / f"sha256-{WEIGHTS}"
    result = harness.Result(
        name="engine",
        title="The model server beside the bare llama.cpp loop",
        settings={"model": MODEL, "threads": THREADS, "tokens": options.tokens, "jarvis": "engine --threads 2",
                  "bare": "crates/engine/examples/bare_decode.rs", "second turn": "24 tokens of answer in between"},
        versions={"jarvis": harness.program(options.jarvis), "llama-cpp-2": harness.locked_version("llama-cpp-2")},
    )
    for number in range(1, options.repetitions + 1):
        result.repetitions.append(repetition(options, number))
        harness.progress(f"{number} of {options.repetitions}")
    unit = "tokens/s"
    result.against("one stream, bare loop as peer", unit, lambda r: r["jarvis_1"], lambda r: r["bare_1"], at_least=0.95)
    result.against("four streams, bare batch of four as peer", unit, lambda r: r["jarvis_4"], lambda r: r["bare_4"],
                   at_least=0.95)
    result.against("four streams, bare batch with a cache for each as peer", unit, lambda r: r["jarvis_4"],
                   lambda r: r["bare_4_streams"])
    result.against("one stream with the usual sampling", unit, lambda r: r["jarvis_1_usual"], lambda r: r["bare_1"])
    result.against("four streams with the usual sampling", unit, lambda r: r["jarvis_4_usual"], lambda r: r["bare_4"])
    result.against("one stream while three conversations of 1,000 tokens are kept for reuse", unit,
                   lambda r: r["jarvis_1_beside"], lambda r: r["bare_1"])
    result.against("first token of a second turn, no prefix reuse as peer", "s", lambda r: r["with_reuse"]["second_seconds"],
                   lambda r: r["without_reuse"]["second_seconds"], more_is_better=False, at_least=5)
    result.single("prompt of the second turn", "tokens", lambda r: r["with_reuse"]["second_prompt_tokens"])
    result.write(options.out)


if __name__ == "__main__":
    main()
