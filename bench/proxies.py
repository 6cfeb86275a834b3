"""The proxies that `balancer.py` compares, the nodes behind them and the loads on them, as processes.

On a machine with two processors the proxy has one for itself and everything else shares the other; this holds for each
proxy alike. A proxy is a family of processes (nginx has a master and a worker), and its time and memory are the sums.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import resource
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import harness
from harness import Server

PATHS = {"ollama": "/api/chat", "openai": "/v1/chat/completions"}
SMALL = "llama3.2:latest"
UNPACED = "stream:256-0-0"
SLOTS = 20_000

# --- Processes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cores:
    """Processors of the proxy and of everything else, as `taskset -c` takes them."""

    proxy: str
    load: str

    @staticmethod
    def split(options: Any, threads: int = 1) -> Cores:
        """The proxy's own processors first; both sides share them all where there are too few."""
        available = sorted(os.sched_getaffinity(0))
        if options.no_pinning or len(available) <= threads:
            everything = ",".join(map(str, available))
            return Cores(everything, everything)
        own, rest = available[-threads:], available[:-threads]
        return Cores(",".join(map(str, own)), ",".join(map(str, rest)))


@dataclass
class Rig:
    """What a repetition runs with."""

    options: Any
    folder: Path
    cores: Cores
    ports: list[int] = field(default_factory=list)

    def urls(self) -> list[str]:
        """The nodes."""
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    def order(self, what: str, **members: Any) -> list[str]:
        """The command of a load, on its processors."""
        return ["taskset", "-c", self.cores.load, str(self.options.load), json.dumps({"do": what, **members})]

    def load(self, what: str, **members: Any) -> dict[str, Any]:
        """Runs a load to its end; ends the measurement where an answer was wrong."""
        done = subprocess.run(self.order(what, **members), capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{what} {members}: {done.stderr}")
        return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def rig(options: Any, models: Sequence[str], threads: int = 1) -> Iterator[Rig]:
    """Two nodes, played by one process with one thread."""
    harness.TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=harness.TARGET) as name:
        made = Rig(options, Path(name), Cores.split(options, threads), [port_for_server(), port_for_server()])
        listen = [f"127.0.0.1:{port}" for port in made.ports]
        with harness.server(made.order("node", listen=listen, models=list(models)), made.ports[0], made.folder,
                            os.environ) as nodes:
            nodes.wait_healthy("/api/version")
            yield made


def port_for_server() -> int:
    """A free loopback port below those of outgoing connections, which the loads use up by the ten thousand."""
    while True:
        port = random.randrange(20_000, 30_000)
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            return port


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    members = [pid]
    for member in members:
        members += [child for child, parent in parents.items() if parent == member]
    return members


def cpu_seconds(server: Server) -> float:
    """Processor time of all threads of a proxy so far."""
    ticks = 0
    for pid in family(server.process.pid):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory(server: Server) -> int:
    """Resident bytes of a proxy; pages that its processes share count once for each."""
    total = 0
    for pid in family(server.process.pid):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) * 1024
    return total


def threads(server: Server) -> int:
    """How many threads a proxy has."""
    return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in family(server.process.pid))


# --- Proxies ------------------------------------------------------------------------------------------------------

Start = Callable[[Rig, int], list[str | Path]]


def written(rig: Rig, template: str, port: int, **values: Any) -> Path:
    """A peer's configuration with its values filled in."""
    text = (harness.BENCH / "peers" / template).read_text()
    target = rig.folder / f"{port}-{template}"
    # The comment names the placeholders in braces.
    head, _, body = text.partition("\n")
    target.write_text(f"{head}\n" + body.format(folder=rig.folder, port=port, nodes=rig.ports, **values))
    return target


def file_limit() -> int:
    """Open files that a process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def nginx(rig: Rig, port: int) -> list[str | Path]:
    """nginx, one worker, `least_conn`."""
    # More than there can be: near its limit nginx closes connections that have not asked for anything yet.
    conf = written(rig, "nginx.conf", port, connections=2 * file_limit())
    return ["nginx", "-e", "stderr", "-p", rig.folder, "-c", conf]


def haproxy(rig: Rig, port: int) -> list[str | Path]:
    """HAProxy, one thread, `leastconn`."""
    return ["haproxy", "-db", "-f", written(rig, "haproxy.cfg", port, connections=(file_limit() - 60) // 2)]


def sglang(rig: Rig, port: int) -> list[str | Path]:
    """sglang-router, `power_of_two`."""
    return [rig.options.python.parent.absolute() / "sglang-router", "launch", "--host", "127.0.0.1", "--port", str(port),
            "--worker-urls", *rig.urls(), "--policy", "power_of_two", "--log-level", "warn",
            "--prometheus-host", "127.0.0.1", "--prometheus-port", str(port_for_server())]


def vllm(rig: Rig, port: int) -> list[str | Path]:
    """vllm-router, `power_of_two`."""
    # At `warning` it logs a line for each request all the same.
    return [rig.options.python.parent.absolute() / "vllm-router", "--host", "127.0.0.1", "--port", str(port),
            "--worker-urls", *rig.urls(), "--policy", "power_of_two", "--log-level", "error",
            "--prometheus-host", "127.0.0.1", "--prometheus-port", str(port_for_server())]


def jarvis(rig: Rig, port: int, *, threads: int = 1, slots: int = SLOTS, nodes: int = 2) -> list[str | Path]:
    """Jarvis, `--threads 1` unless another number is asked for."""
    named = [flag for url in rig.urls()[:nodes] for flag in ("--node", url)]
    return [rig.options.jarvis.resolve(), "balancer", "--listen", f"127.0.0.1:{port}",
            "--admin-listen", f"127.0.0.1:{port_for_server()}", "--threads", str(threads), *named,
            "--strategy", rig.options.strategy, "--slots", str(slots), "--max-queue", str(2 * rig.options.waiters),
            "--log", "warn", *rig.options.jarvis_flag]


PROXIES: dict[str, Start] = {"nginx": nginx, "haproxy": haproxy, "sglang-router": sglang, "vllm-router": vllm,
                             "jarvis": jarvis}
DIALECTS = {"ollama": ("nginx", "haproxy", "jarvis"),
            "openai": ("nginx", "haproxy", "sglang-router", "vllm-router", "jarvis")}


@contextlib.contextmanager
def proxy(rig: Rig, start: Start, dialect: str = "ollama") -> Iterator[Server]:
    """Runs a proxy on its processors until the block ends; it answers a chat when the block begins."""
    port = port_for_server()
    command = ["taskset", "-c", rig.cores.proxy, *start(rig, port)]
    with harness.server(command, port, rig.folder, harness.clean_environment()) as running:
        until_it_answers(running, dialect)
        yield running


def until_it_answers(running: Server, dialect: str, limit: float = 60) -> None:
    """Asks until a chat is answered: routers look at their nodes first."""
    answer = "nothing"
    while time.perf_counter() - running.started < limit:
        if running.process.poll() is not None:
            raise SystemExit(f"{running.process.args} ended with {running.process.returncode}:\n{running.log.read_text()}")
        try:
            status, answer = ask(running, dialect)
        except OSError:
            status = 0
        if status == 200:
            return
        time.sleep(0.1)
    raise SystemExit(f"{running.process.args} answers no chat within {limit} s, but {answer!r}:\n{running.log.read_text()}")


def chat_body(model: str, *, stream: bool) -> str:
    """The request of every load."""
    content = "Good morning Jarvis, how are you today?"
    return json.dumps({"model": model, "messages": [{"role": "user", "content": content}], "stream": stream},
                      separators=(",", ":"))


def ask(running: Server, dialect: str) -> tuple[int, bytes]:
    """One small answer: status and body, which must be a chat's where the status is 200."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", PATHS[dialect], chat_body(SMALL, stream=False), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
    if answer.status == 200:
        said = json.loads(text)
        message = said["message"] if dialect == "ollama" else said["choices"][0]["message"]
        if not message["content"].startswith("Good morning!"):
            raise SystemExit(f"not the answer that is to be measured: {text!r}")
    return answer.status, text


def versions(options: Any) -> dict[str, str]:
    """What took part."""
    routers = harness.package_versions(options.python, "sglang-router", "vllm-router")
    return {"nginx": harness.output_of("nginx", "-v").rpartition("/")[2],
            "haproxy": harness.output_of("haproxy", "-v").split()[2],
            "wrk": harness.output_of("wrk", "-v").splitlines()[0].split(" Copyright")[0].removeprefix("wrk "), **routers}
