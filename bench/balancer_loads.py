"""The loads of `balancer.py`: each runs on one proxy, checks every answer, and returns what it measured."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import harness
import proxies
from harness import Server
from proxies import SMALL, UNPACED, Rig

CONNECTIONS = 32
PACED_STREAMS, PACED_EVERY_MS = 500, 20


def target(port: int, dialect: str, model: str) -> dict[str, str]:
    """Where a load goes."""
    return {"to": f"127.0.0.1:{port}", "dialect": dialect, "model": model}


def core_ticks() -> dict[int, tuple[int, int]]:
    """Ticks of each processor, all and idle."""
    ticks = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *rest = line.split()
        if name.startswith("cpu") and name != "cpu":
            spent = list(map(int, rest[:8]))
            ticks[int(name[3:])] = (sum(spent), spent[3] + spent[4])
    return ticks


def in_use(before: dict[int, tuple[int, int]], cores: str) -> float:
    """How much of these processors was in use since."""
    after = core_ticks()
    chosen = [int(core) for core in cores.split(",")]
    elapsed = sum(after[core][0] - before[core][0] for core in chosen)
    idle = sum(after[core][1] - before[core][1] for core in chosen)
    return round(1 - idle / max(elapsed, 1), 3)


def log_end(running: Server) -> str:
    """What a proxy said last."""
    return running.log.read_text()[-2000:]


def wrk(rig: Rig, running: Server, dialect: str, *, stream: bool, seconds: float) -> dict[str, float]:
    """One run of wrk; ends the measurement where a request failed. Beside the rate: the proxy's processor time per
    answer, and how busy its processors and those of the load were."""
    body = proxies.chat_body(UNPACED if stream else SMALL, stream=stream)
    url = f"http://127.0.0.1:{running.port}{proxies.PATHS[dialect]}"
    command = ["taskset", "-c", rig.cores.load, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s",
               "-s", str(harness.BENCH / "wrk_report.lua"), url]
    before, ticks = proxies.cpu_seconds(running), core_ticks()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "BODY": body}, check=True)
    used = proxies.cpu_seconds(running) - before
    measured = json.loads(done.stdout.strip().splitlines()[-1])
    if measured["failed"] or not measured["requests"]:
        raise SystemExit(f"requests through {running.process.args} failed: {done.stdout}{log_end(running)}")
    return measured | {"per_second": measured["requests"] / measured["seconds"],
                       "cpu_us": used / measured["requests"] * 1e6,
                       "bytes_each": measured["bytes"] / measured["requests"],
                       "proxy_busy": in_use(ticks, rig.cores.proxy), "load_busy": in_use(ticks, rig.cores.load)}


def expect_length(measured: dict[str, float], payload: int, what: str) -> None:
    """Every answer must have been as long as the right one: its text, and a head and framing of a proxy's usual size."""
    if not payload < measured["bytes_each"] < payload * 1.25 + 1200:
        raise SystemExit(f"{what}: answers of {measured['bytes_each']:.0f} bytes where the text has {payload}")


def streams(rig: Rig, port: int, dialect: str, model: str, count: int) -> dict[str, Any]:
    """Streams at once, each record counted."""
    return rig.load("streams", target=target(port, dialect, model), streams=count, opening=256)


def paced(rig: Rig, running: Server, dialect: str, records: int) -> dict[str, float]:
    """The proxy's processor time per record that comes alone."""
    model = f"stream:0-{PACED_EVERY_MS}-{records}"
    expected = streams(rig, rig.ports[0], dialect, f"stream:{records}-0-0", 1)
    longer = len(model) - len(f"stream:{records}-0-0")
    before, ticks = proxies.cpu_seconds(running), core_ticks()
    measured = streams(rig, running.port, dialect, model, PACED_STREAMS)
    used = proxies.cpu_seconds(running) - before
    named = expected["records"] - (1 if dialect == "openai" else 0)  # `[DONE]` names no model
    if measured["bytes"] != PACED_STREAMS * (expected["bytes"] + longer * named):
        raise SystemExit(f"{running.process.args}: {measured}, where one stream is {expected}")
    if not measured["all_at_once"]:
        raise SystemExit(f"{running.process.args}: not all streams were open at once: {measured}")
    return measured | {"cpu_us": used / measured["records"] * 1e6, "proxy_busy": in_use(ticks, rig.cores.proxy),
                       "load_busy": in_use(ticks, rig.cores.load)}


def first_byte(rig: Rig, running: Server, rate: float, seconds: float) -> dict[str, Any]:
    """Time to the first byte at a constant rate, through the proxy and without it."""
    order = {"rate": rate, "seconds": seconds, "warm_up": 1.0, "connections": 64}
    direct = rig.load("rate", target=target(rig.ports[0], "ollama", SMALL), **order)
    through = rig.load("rate", target=target(running.port, "ollama", SMALL), **order)
    for measured in (direct, through):
        measured["p99_of_a_second_ms"] = statistics.median(measured["p99_by_second_ms"])
    added = {f"added_{key}": through[key] - direct[key] for key in ("p50_ms", "p99_ms", "p99_of_a_second_ms")}
    return {"rate": rate, "direct": direct, "through": through, **added}


def open_streams(rig: Rig, running: Server, count: int) -> dict[str, Any]:
    """Most memory seen while that many streams are open at once. Each has sent 256 records before it slows down, so that
    what a proxy keeps of an answer under way is there to be seen."""
    before = proxies.memory(running)
    order = rig.order("streams", target=target(running.port, "ollama", "stream:256-1000-20"), streams=count, opening=256)
    with subprocess.Popen(order, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as load:
        opened = load.stdout.readline()
        samples = [proxies.memory(running)]
        while load.poll() is None:
            time.sleep(0.5)
            samples.append(proxies.memory(running))
        measured, error = load.stdout.read(), load.stderr.read()
    if load.returncode:
        raise SystemExit(f"{running.process.args}: {error}{log_end(running)}")
    measured = json.loads(measured)
    if not measured["all_at_once"]:
        raise SystemExit(f"{running.process.args}: not all streams were open at once: {opened}{measured}")
    return measured | {"before": before, "most": max(samples), "opening_seconds": json.loads(opened)["seconds"]}
