"""What an idle WebSocket costs: resident memory of Jarvis and of uvicorn, each with 5,000 of them open at once.

The growth of the server's resident memory divided by the number of sockets, from before the first was opened to the
most that was seen afterwards, also after the servers' pings have gone round; and the same from a fifth of the sockets to
all of them, so that memory which was free inside the process at the start does not flatter; the larger of the two
counts. Jarvis' sockets are signed in (20 accounts in turn); the peer's are only open, which costs it less. The client is a process of its own
(`socket_holder.py`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import harness
from harness import Server

SOCKETS = 5000
ACCOUNTS = 20
FLAGS = ("serve", "--no-engine", "--node", "http://127.0.0.1:9")


class Client:
    """The process that holds the sockets."""

    def __init__(self, port: int, tokens: list[str]) -> None:
        self.order = {"port": port, "tokens": tokens}
        self.sockets = 0
        self.process = subprocess.Popen([sys.executable, str(harness.BENCH / "socket_holder.py")], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def open(self, count: int) -> float:
        """Opens further sockets; seconds that it took."""
        started = time.monotonic()
        self.process.stdin.write(json.dumps(self.order | {"count": count}) + "\n")
        self.process.stdin.flush()
        self.sockets += count
        self.expect(json.loads(self.process.stdout.readline() or "{}"))
        return time.monotonic() - started

    def close(self) -> int:
        """Ends; how many pings were answered. All sockets must have stayed open."""
        self.process.stdin.close()
        left = json.loads(self.process.stdout.readline() or "{}")
        self.process.wait()
        self.expect(left)
        return left["pings"]

    def expect(self, answer: dict) -> None:
        """All sockets must be open."""
        if answer.get("open") != self.sockets:
            raise SystemExit(f"{answer.get('open')} of {self.sockets} sockets are open")


def settled(running: Server, tokens: list[str], sockets: int) -> dict:
    """The least memory seen after some sockets came and went: the allocator keeps what only the start needed until it is
    used."""
    client = Client(running.port, tokens)
    client.open(sockets)
    client.close()
    samples = []
    for _ in range(10):
        time.sleep(0.5)
        samples.append(running.memory())
    return min(samples, key=lambda sample: sample["rss"])


def measure(running: Server, tokens: list[str], sockets: int, idle: float) -> dict:
    """Opens the sockets, keeps them idle, and reads the server's memory before, after and in between."""
    before = settled(running, tokens, sockets // 10)
    client = Client(running.port, tokens)
    fifth = sockets // 5
    seconds = client.open(fifth)
    time.sleep(2)
    after_fifth = running.memory()
    seconds += client.open(sockets - fifth)
    samples = []
    end = time.monotonic() + idle
    while time.monotonic() < end:
        samples.append(running.memory())
        time.sleep(2)
    pings = client.close()
    most = max(samples, key=lambda sample: sample["rss"])
    growth = ((most["rss"] - before["rss"]) / sockets, (most["rss"] - after_fifth["rss"]) / (sockets - fifth))
    if growth[1] <= 0:
        raise SystemExit(f"the memory did not grow: {before}, {after_fifth}, then {most}")
    return {
        "before": before, "after_a_fifth": after_fifth, "after_opening": samples[0], "most": most,
        "opening_seconds": round(seconds, 2), "pings_answered": pings,
        "kib_per_socket_from_none": growth[0] / 1024, "kib_per_socket_from_a_fifth": growth[1] / 1024,
        "kib_per_socket": max(growth) / 1024,
    }


def measure_jarvis(options, sockets: int) -> dict:
    """A fresh Jarvis. Its accounts are made in an earlier start: hashing passwords takes memory that is given back
    later, which would hide that of the sockets."""
    with harness.data_directory() as data:
        with harness.jarvis(options.jarvis, data, *FLAGS) as running:
            running.wait_healthy()
            tokens = [harness.register(running, f"reader{number}") for number in range(ACCOUNTS)]
        with harness.jarvis(options.jarvis, data, *FLAGS) as running:
            running.wait_healthy()
            return measure(running, tokens, sockets, options.idle)


def measure_peer(options, sockets: int) -> dict:
    """A fresh peer."""
    with harness.data_directory() as data, harness.fastapi(options.python, data) as running:
        return measure(running, [], sockets, options.idle)


def main() -> None:
    parser = harness.arguments(__doc__, repetitions=3)
    parser.add_argument("--sockets", type=int, default=SOCKETS)
    parser.add_argument("--idle", type=float, default=45, help="seconds to keep them idle; both servers ping every 20")
    options = parser.parse_args()
    if harness.raise_file_limit() < options.sockets + 200:
        raise SystemExit(f"the limit of open files is too low for {options.sockets} sockets: raise `ulimit -Hn`")
    result = harness.Result(
        name="websockets",
        title=f"{options.sockets:,} idle WebSockets",
        settings={"sockets": options.sockets, "accounts": ACCOUNTS, "idle_seconds": options.idle,
                  "jarvis": "serve --no-engine", "peer": "peers/fastapi_backend.py, 1 process, uvloop, httptools"},
        versions={"jarvis": harness.program(options.jarvis),
                  **harness.package_versions(options.python, "fastapi", "uvicorn", "uvloop", "websockets")},
    )
    for number in range(options.repetitions):
        busy = harness.quiet(options.patience)
        peer = measure_peer(options, options.sockets)
        ours = measure_jarvis(options, options.sockets)
        result.repetitions.append({"busy_before": busy, "peer": peer, "jarvis": ours})
        harness.progress(f"{number + 1} of {options.repetitions}: {ours['kib_per_socket']:.2f} KiB, peer {peer['kib_per_socket']:.2f}")
    result.against("resident memory per socket", "KiB", lambda r: r["jarvis"]["kib_per_socket"],
                   lambda r: r["peer"]["kib_per_socket"], more_is_better=False)
    result.figures[0].target, result.figures[0].met = "≤ 10 KiB", result.figures[0].jarvis <= 10
    result.single("resident memory of the whole process", "MiB", lambda r: r["jarvis"]["most"]["rss"] / 2**20)
    result.write(options.out)


if __name__ == "__main__":
    main()
