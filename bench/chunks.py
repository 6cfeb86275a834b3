"""From the node to the reader's socket: how long a chunk takes, and how much processor time, embedded and through Redis.

One process plays the node; each chunk of its answers carries the time at which it was sent. Another one holds the
readers' sockets, a socket for each answer, and compares that with the time at which the frame is in its hands
(`crates/testkit/examples/bench_http`: `stamped.rs`, `answers.rs`). So the times include more than what Jarvis does after the
balancer: the node's `write`, the balancer, two ways through the kernel's loopback, and the reader's wait for a processor. All
answers come at once, 50 chunks a second each, out of step; each must come whole and without a gap.

Embedded is `serve` with SQLite and files. Through Redis is `api` with PostgreSQL (which flushes to the disk) and a Redis
Cluster of three masters: read at the instance that makes the answers, which shows what Redis has acknowledged, and at
another one, which hears of it from Redis.

Processor time is all of the instance's process (user and system), divided by the chunks that its readers got in that time: the
balancer, which runs in it, the log, checkpoints, sockets and whatever else it does. PostgreSQL, Redis, node and readers are
processes of their own and not in it, but on the same processors.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import harness
import proxies
from balancer_loads import core_ticks, in_use
from harness import Server
from services import services

ACCOUNTS = 20
EVERY_MS = 20
FEW, MANY = 100, 500
WARM_UP = 2
# What opening the streams and closing them may take.
MARGIN = 15
SECRET = "one secret for both instances of this installation"


def model(seconds: float) -> str:
    """The model whose answers are stamped and last this long."""
    return f"stamped:{EVERY_MS}-{int(seconds * 1000 / EVERY_MS)}"


@dataclass
class Platform:
    """An instance that makes the answers, and where it is there another one, with the accounts' tokens."""

    owner: Server
    other: Server | None
    tokens: list[str]


def load(options, platform: Platform, streams: int, follow: Server) -> dict[str, float]:
    """Answers for a while: chunks' times, and the owner's processor time for each."""
    order = {"do": "answers", "ask": f"127.0.0.1:{platform.owner.port}", "follow": f"127.0.0.1:{follow.port}",
             "tokens": platform.tokens, "model": model(options.seconds + WARM_UP + MARGIN), "streams": streams, "opening": 16,
             "warm_up": WARM_UP, "seconds": options.seconds}
    with subprocess.Popen([options.load, json.dumps(order)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
        opened = client.stdout.readline()
        before, ticks = proxies.cpu_seconds(platform.owner), core_ticks()
        closed = client.stdout.readline()
        used, busy = proxies.cpu_seconds(platform.owner) - before, in_use(ticks, ",".join(map(str, ticks)))
        rest, error = client.stdout.read(), client.stderr.read()
    if client.returncode or not opened or not closed:
        raise SystemExit(f"the load failed: {error}{platform.owner.log.read_text()[-2000:]}")
    measured = json.loads(rest)
    due = streams * options.seconds * 1000 / EVERY_MS
    if not 0.9 * due < measured["chunks"] < 1.1 * due:
        raise SystemExit(f"{measured['chunks']} chunks came where {due:.0f} were due: the machine cannot keep up")
    return measured | {"cpu_us": used / measured["chunks"] * 1e6, "machine_busy": busy,
                       "chunks_per_frame": measured["chunks"] / measured["frames"]}


@contextlib.contextmanager
def node(options, folder: Path) -> Iterator[str]:
    """The node's URL."""
    port = proxies.port_for_server()
    order = {"do": "node", "listen": [f"127.0.0.1:{port}"], "models": [model(options.seconds + WARM_UP + MARGIN)]}
    with harness.server([options.load, json.dumps(order)], port, folder, os.environ) as running:
        running.wait_healthy("/api/version")
        yield f"http://127.0.0.1:{port}"


def tokens(running: Server) -> list[str]:
    """Accounts to ask with."""
    return [harness.register(running, f"reader{number}") for number in range(ACCOUNTS)]


@contextlib.contextmanager
def embedded(options) -> Iterator[Platform]:
    """One `serve` with SQLite and files."""
    with (
        harness.data_directory() as data,
        node(options, data) as url,
        harness.jarvis(options.jarvis, data, "serve", "--no-engine", "--node", url, settings=settings()) as owner,
    ):
        owner.wait_healthy()
        yield Platform(owner, None, tokens(owner))


@contextlib.contextmanager
def through_redis(options) -> Iterator[Platform]:
    """Two `api` with PostgreSQL and Redis."""
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(services("postgres:durable", "redis"))
        shared = settings() | running.database().jarvis() | running.redis()
        folders = [stack.enter_context(harness.data_directory()) for _ in range(3)]
        url = stack.enter_context(node(options, folders[2]))
        instances = [stack.enter_context(harness.jarvis(options.jarvis, folder, "api", "--node", url, settings=shared))
                     for folder in folders[:2]]
        for instance in instances:
            instance.wait_healthy()
        yield Platform(*instances, tokens(instances[0]))


def settings() -> dict[str, str]:
    """What both platforms are told."""
    return {"JARVIS_AUTH_SECRET": SECRET, "JARVIS_AUTH_REGISTRATION": "open", "JARVIS_BALANCER_SLOTS": str(2 * MANY)}


def repetition(options) -> dict:
    """Both platforms, each with few streams and with many."""
    measured: dict = {"busy_before": harness.quiet(options.patience)}
    with embedded(options) as platform:
        measured["embedded"] = load(options, platform, FEW, platform.owner)
        measured["embedded_many"] = load(options, platform, MANY, platform.owner)
    with through_redis(options) as platform:
        measured["redis"] = load(options, platform, FEW, platform.owner)
        measured["redis_elsewhere"] = load(options, platform, FEW, platform.other)
        measured["redis_many"] = load(options, platform, MANY, platform.owner)
    return measured


def main() -> None:
    parser = harness.arguments(__doc__, repetitions=3)
    parser.add_argument("--seconds", type=int, default=10, help="what is measured of one load")
    parser.add_argument("--load", type=Path, default=harness.TARGET / "release" / "examples" / "bench_http",
                        help="the program that plays the node and the readers")
    options = parser.parse_args()
    if not options.load.exists():
        raise SystemExit(f"{options.load} is not built: cargo build --release --package jarvis-testkit --example bench_http")
    harness.raise_file_limit()
    result = harness.Result(
        name="chunks",
        title=f"A chunk's way to its reader: {FEW} and {MANY} answers at once, {1000 // EVERY_MS} chunks a second each",
        settings={"seconds": options.seconds, "accounts": ACCOUNTS, "embedded": "serve --no-engine, SQLite, files",
                  "through Redis": "api, PostgreSQL (fsync on), Redis Cluster of 3 masters"},
        versions={"jarvis": harness.program(options.jarvis), "redis": harness.output_of("redis-server", "--version").split()[2],
                  "PostgreSQL": harness.output_of("pgbench", "--version").split()[2]},
    )
    for number in range(options.repetitions):
        result.repetitions.append(repetition(options))
        shown = {name: f"p99 {one['p99_ms']:.2f} ms, {one['cpu_us']:.1f} µs" for name, one in result.repetitions[-1].items()
                 if isinstance(one, dict)}
        harness.progress(f"{number + 1} of {options.repetitions}: {shown}")
    for title, name, limit in (("embedded", "embedded", 1), ("Redis, read at the owner", "redis", 5),
                               ("Redis, read elsewhere", "redis_elsewhere", 5)):
        result.single(f"{FEW} answers, {title}: node to socket, p50", "ms", lambda r, name=name: r[name]["p50_ms"])
        result.single(f"{FEW} answers, {title}: node to socket, p99", "ms", lambda r, name=name: r[name]["p99_ms"], at_most=limit)
    for title, name, limit in (("embedded", "embedded_many", 25), ("Redis", "redis_many", 50)):
        result.single(f"{MANY} answers, {title}: processor time per chunk", "µs", lambda r, name=name: r[name]["cpu_us"], at_most=limit)
        result.single(f"{MANY} answers, {title}: chunks in one frame", "", lambda r, name=name: r[name]["chunks_per_frame"])
        result.single(f"{MANY} answers, {title}: node to socket, p99", "ms", lambda r, name=name: r[name]["p99_ms"])
    result.write(options.out)


if __name__ == "__main__":
    main()
