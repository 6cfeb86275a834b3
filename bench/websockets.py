"""What an idle WebSocket costs: resident memory of Jarvis and of uvicorn, each with 5,000 of them open at once.

The growth of the server's resident memory divided by the number of sockets, from before the first was opened to the
most that was seen afterwards, at once and after the servers' pings have gone round. Jarvis' sockets are signed in (20
accounts in turn); the peer's are only open, which costs it less. The client is a process of its own
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


def measure(running: Server, tokens: list[str], sockets: int, idle: float) -> dict:
    """Opens the sockets, keeps them idle, and reads the server's memory before, after and in between."""
    running.call("GET", "/health" if tokens else "/token")
    time.sleep(2)
    before = running.memory()
    holder = subprocess.Popen([sys.executable, str(harness.BENCH / "socket_holder.py")], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    assert holder.stdin and holder.stdout
    started = time.monotonic()
    holder.stdin.write(json.dumps({"port": running.port, "count": sockets, "tokens": tokens}) + "\n")
    holder.stdin.flush()
    opened = json.loads(holder.stdout.readline() or "{}").get("open")
    seconds = time.monotonic() - started
    samples = []
    end = time.monotonic() + idle
    while opened == sockets and time.monotonic() < end:
        samples.append(running.memory())
        time.sleep(2)
    holder.stdin.close()
    left = json.loads(holder.stdout.readline() or "{}")
    holder.wait()
    if opened != sockets or left.get("open") != sockets:
        raise SystemExit(f"of {sockets} sockets {opened} were opened and {left.get('open')} stayed open")
    most = {key: max(sample[key] for sample in samples) for key in before}
    return {
        "before": before, "after_opening": samples[0], "most": most, "opening_seconds": round(seconds, 2),
        "pings_answered": left["pings"],
        "kib_per_socket": (most["rss"] - before["rss"]) / sockets / 1024,
    }


def measure_jarvis(options, sockets: int) -> dict:
    """A fresh Jarvis with its accounts."""
    with (
        harness.data_directory() as data,
        harness.jarvis(options.jarvis, data, "serve", "--no-engine", "--node", "http://127.0.0.1:9") as running,
    ):
        running.wait_healthy()
        tokens = [harness.register(running, f"reader{number}") for number in range(ACCOUNTS)]
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
        versions={"jarvis": harness.commit(),
                  **harness.package_versions(options.python, "fastapi", "uvicorn", "uvloop", "websockets")},
    )
    for number in range(options.repetitions):
        busy = harness.quiet()
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
