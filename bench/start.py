"""The second start of `jarvis serve`: how soon it answers, how soon the model does, what it weighs.

Each repetition starts the program anew on a data directory that has been used before, asks `GET /health` every
millisecond from the moment the process is made, sends a question at once and notes when its first word comes (the model
is loaded and the prompt computed by then). Memory without the model is that of a `serve` whose data directory has no
models, everything else as usual. The files are in the page cache, as after any first start.
"""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path

import harness
from harness import Server

QUESTION = "Name three colours."


def first_word(running: Server, token: str) -> float:
    """Asks a question; seconds since the start of the process until its answer's first text arrives."""
    conversation = running.call("POST", "/api/v1/conversations", {}, token)["id"]
    path = f"/api/v1/conversations/{conversation}/messages"
    generation = running.call("POST", path, {"content": QUESTION}, token)["generation_id"]
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=120)
    connection.request("GET", f"/api/v1/generations/{generation}/events", headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(f"no events of the answer: {answer.status} {answer.read()!r}")
    event = b""
    while line := answer.readline():
        if line.startswith(b"event:"):
            event = line.split(b":", 1)[1].strip()
        elif line.startswith(b"data:") and event == b"delta" and json.loads(line.split(b":", 1)[1])["text"]:
            seconds = time.perf_counter() - running.started
            connection.close()
            running.call("POST", f"/api/v1/generations/{generation}/cancel", token=token)
            return seconds
    raise SystemExit(f"the answer ended without a word: last event {event!r}")


def settled_memory(running: Server) -> dict[str, int]:
    """Resident memory two seconds later."""
    time.sleep(2)
    return running.memory()


def second_start(binary: Path, data: Path, token: str) -> dict:
    """One start with models, up to the first word."""
    with harness.jarvis(binary, data) as running:
        healthy = running.wait_healthy()
        word = first_word(running, token)
        return {"healthy_seconds": healthy, "first_word_seconds": word, "memory_with_model": settled_memory(running)}


def without_model(binary: Path, data: Path) -> dict:
    """One start without models; another without the model server at all."""
    measured = {}
    for name, flags in (("without_model", ()), ("without_engine", ("--no-engine", "--node", "http://127.0.0.1:9"))):
        with harness.jarvis(binary, data, "serve", *flags) as running:
            running.wait_healthy()
            measured[f"memory_{name}"] = settled_memory(running)
    return measured


def main() -> None:
    parser = harness.arguments(__doc__, repetitions=7)
    options = parser.parse_args()
    result = harness.Result(
        name="start",
        title="The second start of `jarvis serve`",
        settings={"question": QUESTION, "flags": "none but addresses and data directory"},
        versions={"jarvis": harness.program(options.jarvis)},
    )
    with harness.data_directory(options.models) as data, harness.data_directory() as empty:
        with harness.jarvis(options.jarvis, data) as running:
            running.wait_healthy()
            token = harness.register(running, "starter")
            first_word(running, token)
        for number in range(options.repetitions):
            busy = harness.quiet(options.patience)
            measured = second_start(options.jarvis, data, token) | without_model(options.jarvis, empty)
            result.repetitions.append({"busy_before": busy} | measured)
            harness.progress(f"{number + 1} of {options.repetitions}")
    result.single("from launch to the first answered request", "s", lambda r: r["healthy_seconds"], at_most=1)
    result.single("from there to the first word of a question's answer", "s",
                  lambda r: r["first_word_seconds"] - r["healthy_seconds"], at_most=2)
    result.single("resident memory without a model", "MB", lambda r: r["memory_without_model"]["rss"] / 1e6, at_most=60)
    result.single("resident memory without the model server", "MB", lambda r: r["memory_without_engine"]["rss"] / 1e6)
    result.single("resident memory with the demonstration model", "MB", lambda r: r["memory_with_model"]["rss"] / 1e6)
    size = options.jarvis.stat().st_size
    result.settings["binary_bytes"] = size
    result.single("size of the program", "MB", lambda _: size / 1e6, at_most=80)
    result.write(options.out)


if __name__ == "__main__":
    main()
