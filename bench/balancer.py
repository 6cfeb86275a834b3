"""Jarvis' balancer beside nginx, HAProxy, sglang-router and vllm-router, all in front of the same two nodes.

The nodes are `crates/testkit/examples/bench_http`, one thread for both; they answer faster than any proxy relays. Every
proxy has one worker or thread where it can be told so, and one processor where the machine has two. Measured of each:

- small answers and streams of 256 records sent at once, under wrk with one thread and 32 connections;
- processor time per relayed record of 500 streams at once, each 50 records a second, every record counted;
- the time to the first byte at half the rate that it can do, beside a direct connection at the same rate;
- resident memory with some 10,000 streams open at once;

and of Jarvis alone what a request costs that waits in its queue, and what a second thread brings. Ollama's dialect is
compared with nginx and HAProxy, OpenAI's with the routers too, which know no other. Every proxy is started anew for each
repetition, and a different one begins each time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import balancer_loads as loads
import balancer_plot
import harness
import proxies
from harness import Server
from proxies import DIALECTS, PROXIES, SMALL, UNPACED, Rig

WAITERS = 5000
OPEN_STREAMS = 10_000

# --- Jarvis alone -------------------------------------------------------------------------------------------------


class Holder:
    """Keeps connections through three steps."""

    def __init__(self, rig: Rig, port: int, count: int) -> None:
        order = rig.order("hold", target=loads.target(port, "ollama", SMALL), connections=count)
        self.process = subprocess.Popen(order, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)

    def answer(self) -> dict[str, Any]:
        """What a step ended with."""
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the connections ended: {self.process.stderr.read()}")
        return json.loads(line)

    def step(self) -> dict[str, Any]:
        """Asks for the next step."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()


def settled(running: Server) -> int:
    """Memory once it has stopped changing."""
    last = proxies.memory(running)
    for _ in range(20):
        time.sleep(0.25)
        now = proxies.memory(running)
        if now == last:
            break
        last = now
    return last


def waiters(options: Any, count: int) -> dict[str, Any]:
    """What a waiting request costs: one node, one slot, a stream that holds it, and requests on connections that have
    been answered once before. The growth from there is the wait alone; the connection's own cost stands beside it."""
    start = partial(proxies.jarvis, slots=1, nodes=1)
    with proxies.rig(options, [SMALL, "stream:1-600000-1"]) as rig, proxies.proxy(rig, start) as running:
        before = settled(running)
        holder = Holder(rig, running.port, count)
        try:
            holder.answer()
            idle = settled(running)
            holder.step()
            answered = settled(running)
            order = rig.order("streams", target=loads.target(running.port, "ollama", "stream:1-600000-1"), streams=1, opening=1)
            with subprocess.Popen(order, stdout=subprocess.PIPE, text=True) as blocker:
                blocker.stdout.readline()
                holder.step()
                waiting = settled(running)
                ended = holder.step()
                blocker.terminate()
        finally:
            holder.process.kill()
            holder.process.communicate()
    if ended["early"]:
        raise SystemExit(f"{ended['early']} of {count} waiting requests were answered: {ended['first']}")
    return {"before": before, "idle": idle, "answered": answered, "waiting": waiting,
            "kib_each": (waiting - answered) / count / 1024, "kib_with_connection": (waiting - before) / count / 1024}


def two_threads(options: Any, seconds: float) -> dict[str, float]:
    """Small answers a second with one thread and with two, both free to use two processors where there are that many
    beside the load's; on a machine of two the load shares them."""
    measured = {}
    for threads in (1, 2):
        with (proxies.rig(options, [SMALL], 2) as rig,
              proxies.proxy(rig, partial(proxies.jarvis, threads=threads)) as running):
            loads.wrk(rig, running, "ollama", stream=False, seconds=1)
            measured[str(threads)] = loads.wrk(rig, running, "ollama", stream=False, seconds=seconds)
    return measured


# --- A repetition -------------------------------------------------------------------------------------------------


def measure(options: Any, dialect: str, name: str) -> dict[str, Any]:
    """Everything about one proxy in one dialect, from a fresh start."""
    records = int(options.paced_seconds * 1000 / loads.PACED_EVERY_MS)
    models = [SMALL, UNPACED, f"stream:0-{loads.PACED_EVERY_MS}-{records}"]
    with proxies.rig(options, models) as rig, proxies.proxy(rig, PROXIES[name], dialect) as running:
        small_text = len(proxies.ask(running, dialect)[1])
        stream_text = loads.streams(rig, running.port, dialect, UNPACED, 1)["bytes"]
        loads.wrk(rig, running, dialect, stream=False, seconds=1)
        measured = {"threads": proxies.threads(running)}
        measured["small"] = loads.wrk(rig, running, dialect, stream=False, seconds=options.seconds)
        measured["streams"] = loads.wrk(rig, running, dialect, stream=True, seconds=options.seconds)
        loads.expect_length(measured["small"], small_text, f"{name}, small answers")
        loads.expect_length(measured["streams"], stream_text, f"{name}, streams")
        measured["paced"] = loads.paced(rig, running, dialect, records)
        if dialect == "ollama":
            rate = measured["small"]["per_second"] / 2
            measured["first_byte"] = loads.first_byte(rig, running, rate, options.seconds)
    if dialect == "ollama":
        with (proxies.rig(options, [SMALL, "stream:256-1000-20"]) as rig,
              proxies.proxy(rig, PROXIES[name], dialect) as running):
            measured["open"] = loads.open_streams(rig, running, options.open_streams)
    return measured


def turns(names: Iterable[str], number: int) -> list[str]:
    """A different one first each time."""
    listed = list(names)
    return listed[number % len(listed):] + listed[:number % len(listed)]


def repetition(options: Any, number: int) -> dict[str, Any]:
    """Every proxy in turn, and Jarvis' own figures."""
    measured: dict[str, Any] = {"busy_before": harness.quiet(options.patience)}
    for dialect in options.dialects:
        measured[dialect] = {}
        for name in turns(options.contenders[dialect], number):
            measured[dialect][name] = measure(options, dialect, name)
            harness.progress(f"{number + 1}, {dialect}, {name}: {brief(measured[dialect][name])}")
    if not options.peers_only:
        measured["waiters"] = waiters(options, options.waiters)
        measured["two_threads"] = two_threads(options, options.seconds)
    return measured


def brief(one: dict[str, Any]) -> str:
    """One proxy's figures in a line."""
    text = (f"{one['small']['per_second']:,.0f} small/s ({one['small']['cpu_us']:.1f} µs), "
            f"{one['streams']['per_second']:,.0f} streams/s ({one['streams']['cpu_us']:.0f} µs), "
            f"{one['paced']['cpu_us']:.2f} µs per paced record")
    if "open" in one:
        text += (f", first byte +{one['first_byte']['added_p50_ms']:.3f} ms (p99 +{one['first_byte']['added_p99_ms']:.3f})"
                 f", {one['open']['most'] / 1e6:.0f} MB with {one['open']['streams']:,} streams")
    return text


# --- Figures ------------------------------------------------------------------------------------------------------

# Which ratios have a target, by dialect and peer.
SMALL_TARGETS = {("ollama", "nginx"): 1}
STREAM_TARGETS = PACED_TARGETS = {("ollama", "haproxy"): 1}


def compared(result: harness.Result, options: Any) -> None:
    """Jarvis beside each peer. Where the load has its processor full before the proxy has, the rates of small answers
    are those of the load; what the proxy would do with its own processor full stands beside them."""
    for dialect in options.dialects:
        for peer in options.contenders[dialect]:
            if peer == "jarvis":
                continue

            def of(name: str, part: str, key: str, dialect: str = dialect) -> Any:
                return lambda repetition: repetition[dialect][name][part][key]

            pair, ending = (dialect, peer), f"{'Ollama' if dialect == 'ollama' else 'OpenAI'} dialect, {peer} as peer"
            result.against(f"small answers, {ending}", "1/s", of("jarvis", "small", "per_second"),
                           of(peer, "small", "per_second"), at_least=SMALL_TARGETS.get(pair))
            result.against(f"small answers per second of its processor, {ending}", "1/s",
                           lambda r, of=of: 1e6 / of("jarvis", "small", "cpu_us")(r),
                           lambda r, of=of, peer=peer: 1e6 / of(peer, "small", "cpu_us")(r))
            result.against(f"streams of 256 records, {ending}", "1/s", of("jarvis", "streams", "per_second"),
                           of(peer, "streams", "per_second"), at_least=STREAM_TARGETS.get(pair))
            result.against(f"processor time per paced record, {ending}", "µs", of("jarvis", "paced", "cpu_us"),
                           of(peer, "paced", "cpu_us"), more_is_better=False, at_least=PACED_TARGETS.get(pair))
            if dialect == "ollama":
                result.against(f"time to the first byte at half load, p99, {peer} as peer", "ms",
                               lambda r: r["ollama"]["jarvis"]["first_byte"]["through"]["p99_ms"],
                               lambda r, peer=peer: r["ollama"][peer]["first_byte"]["through"]["p99_ms"], more_is_better=False)
                result.against(f"memory with {options.open_streams:,} open streams, {peer} as peer", "MB",
                               lambda r: r["ollama"]["jarvis"]["open"]["most"] / 1e6,
                               lambda r, peer=peer: r["ollama"][peer]["open"]["most"] / 1e6, more_is_better=False)


def alone(result: harness.Result, options: Any) -> None:
    """Jarvis' own figures."""
    if "ollama" in options.dialects:
        for quantile, key, limit in (("p50", "p50", None), ("p99", "p99", 1), ("p99 of the median second", "p99_of_a_second", None)):
            result.single(f"time to the first byte at half load, {quantile}, more than direct", "ms",
                          lambda r, key=f"added_{key}_ms": r["ollama"]["jarvis"]["first_byte"][key], limit)
        result.single(f"memory with {options.open_streams:,} open streams", "MB",
                      lambda r: r["ollama"]["jarvis"]["open"]["most"] / 1e6, 200)
    result.single(f"each of {options.waiters:,} requests in the queue", "KiB", lambda r: r["waiters"]["kib_each"], 2)
    result.single("the same with its connection", "KiB", lambda r: r["waiters"]["kib_with_connection"])
    enough = len(os.sched_getaffinity(0)) >= 4
    result.against("small answers with two threads, one thread as peer", "1/s",
                   lambda r: r["two_threads"]["2"]["per_second"], lambda r: r["two_threads"]["1"]["per_second"],
                   at_least=1.7 if enough else None)


def table(result: harness.Result, options: Any) -> None:
    """Every proxy's medians on the terminal."""
    for dialect in options.dialects:
        for name in options.contenders[dialect]:
            def median(part: str, key: str) -> float:
                return statistics.median(r[dialect][name][part][key] for r in result.repetitions)
            print(f"{dialect:8}{name:14}{median('small', 'per_second'):>10,.0f} small/s"
                  f"{median('small', 'proxy_busy'):>6.0%} proxy{median('small', 'load_busy'):>6.0%} load"
                  f"{median('streams', 'per_second'):>9,.0f} streams/s{median('streams', 'proxy_busy'):>6.0%} proxy"
                  f"{median('streams', 'load_busy'):>6.0%} load{median('paced', 'cpu_us'):>8.2f} µs per paced record", flush=True)


# --- Command line -------------------------------------------------------------------------------------------------


def settings(options: Any) -> dict[str, Any]:
    """The circumstances, for the report."""
    cores = proxies.Cores.split(options)
    return {"seconds of each load": options.seconds, "connections": loads.CONNECTIONS, "nodes": 2,
            "processor of the proxy": cores.proxy, "processors of load and nodes": cores.load,
            "paced": f"{loads.PACED_STREAMS} streams × {1000 // loads.PACED_EVERY_MS}/s × {options.paced_seconds:g} s",
            "jarvis": f"balancer --threads 1 --strategy {options.strategy} --slots {proxies.SLOTS}",
            "nginx": "1 worker, least_conn", "haproxy": "1 thread, leastconn", "routers": "power_of_two"}


def parsed() -> Any:
    """Flags, and what follows from them."""
    parser = harness.arguments(__doc__, repetitions=3)
    parser.add_argument("--load", type=Path, default=harness.TARGET / "release" / "examples" / "bench_http",
                        help="crates/testkit/examples/bench_http, optimized")
    parser.add_argument("--seconds", type=int, default=6, help="length of one load")
    parser.add_argument("--paced-seconds", type=float, default=10)
    parser.add_argument("--waiters", type=int, default=WAITERS)
    parser.add_argument("--open-streams", type=int, default=OPEN_STREAMS)
    parser.add_argument("--strategy", default="adaptive", help="Jarvis' way of choosing a node")
    parser.add_argument("--jarvis-flag", action="append", default=[], help="one more flag for Jarvis; may come again")
    parser.add_argument("--no-pinning", action="store_true", help="leave the processors to the kernel")
    parser.add_argument("--dialects", nargs="+", choices=DIALECTS, default=list(DIALECTS))
    parser.add_argument("--only", nargs="+", choices=PROXIES, help="these proxies alone; nothing is written")
    parser.add_argument("--peers-only", action="store_true", help="without Jarvis; nothing is written")
    parser.add_argument("--plot", type=Path, default=harness.ROOT / "docs" / "images" / "balancer.svg")
    options = parser.parse_args()
    chosen = [name for name in options.only or PROXIES if not (options.peers_only and name == "jarvis")]
    options.contenders = {dialect: [name for name in DIALECTS[dialect] if name in chosen] for dialect in options.dialects}
    options.peers_only = "jarvis" not in chosen
    # A proxy has two sockets for each stream.
    most = (harness.raise_file_limit() - 200) // 2
    if options.open_streams > most:
        harness.progress(f"{most:,} open streams instead of {options.open_streams:,}: the limit of open files is lower")
        options.open_streams = most
    return options


def require(options: Any) -> None:
    """Says at once what is missing."""
    if not options.load.exists():
        raise SystemExit(f"no {options.load}: cargo build --release --package jarvis-testkit --example bench_http")
    if options.peers_only:
        return
    if not options.jarvis.exists():
        raise SystemExit(f"no {options.jarvis}: build it, or measure the peers alone (--peers-only)")
    tried = subprocess.run([options.jarvis.resolve(), "balancer", "--help"], capture_output=True, text=True)
    if tried.returncode:
        raise SystemExit(f"{options.jarvis} has no role `balancer`; build a newer one, or measure the peers alone "
                         f"(--peers-only). It says: {tried.stderr.strip()}")


def main() -> None:
    options = parsed()
    require(options)
    jarvis = {} if options.peers_only else {"jarvis": harness.program(options.jarvis)}
    result = harness.Result(name="balancer", title="The balancer beside other proxies", settings=settings(options),
                            versions=jarvis | proxies.versions(options))
    for number in range(options.repetitions):
        result.repetitions.append(repetition(options, number))
    table(result, options)
    if options.only or options.peers_only:
        harness.progress("nothing is written: not every proxy took part")
        return
    compared(result, options)
    alone(result, options)
    result.write(options.out)
    balancer_plot.write(options.plot, result.repetitions, options.contenders)


if __name__ == "__main__":
    main()
