"""What the measurements share: processes, accounts, quiet machine, medians, result files.

Every measurement is one script beside this file. It runs Jarvis and, where there is one, a peer in turns on the same
machine, several times, and writes every repetition to `results/<name>.json`. Absolute figures drift with the machine;
ratios of one run are what counts.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import http.client
import json
import os
import platform
import resource
import signal
import socket
import statistics
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
PASSWORD = "a long passphrase for measurements"

# --- Command line -------------------------------------------------------------------------------------------------


def arguments(description: str, repetitions: int) -> argparse.ArgumentParser:
    """The flags that every measurement has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--jarvis", type=Path, default=TARGET / "release" / "jarvis", help="the optimized program")
    parser.add_argument("--models", type=Path, default=TARGET / "bench-data" / "models", help="folder of the models")
    parser.add_argument("--python", type=Path, default=TARGET / "tools" / "bench" / "bin" / "python",
                        help="an interpreter with requirements.txt installed, for the peers")
    parser.add_argument("--repetitions", type=int, default=repetitions)
    parser.add_argument("--patience", type=float, default=60,
                        help="seconds that a repetition waits for the machine to become idle, at most")
    parser.add_argument("--out", type=Path, default=BENCH / "results", help="folder of the result files")
    return parser


# --- Processes ----------------------------------------------------------------------------------------------------


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def raise_file_limit() -> int:
    """Lifts the soft limit of open files to the hard one, for us and for what we start; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def clean_environment() -> dict[str, str]:
    """The environment without anything that would configure Jarvis."""
    return {name: value for name, value in os.environ.items() if not name.startswith("JARVIS_")}


@dataclass
class Server:
    """A server process on a loopback port."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    started: float

    def wait_healthy(self, path: str = "/health", limit: float = 60) -> float:
        """Asks every millisecond until `path` answers 200; returns the seconds since the process was started."""
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
        while time.perf_counter() - self.started < limit:
            if self.process.poll() is not None:
                raise SystemExit(f"{self.process.args} ended with {self.process.returncode}:\n{self.log.read_text()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                connection.sendall(request)
                if connection.recv(64).split(b" ", 2)[1:2] == [b"200"]:
                    return time.perf_counter() - self.started
            time.sleep(0.001)
        raise SystemExit(f"{self.process.args} did not answer within {limit} s:\n{self.log.read_text()}")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where that is not enough."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def memory(self) -> dict[str, int]:
        """Resident memory in bytes, `rss` and its `anonymous` part, as the kernel counts page by page."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        fields = {line.split(":")[0]: line.split()[1] for line in text.splitlines()[1:]}
        return {"rss": int(fields["Rss"]) * 1024, "anonymous": int(fields["Anonymous"]) * 1024}

    def call(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        """One JSON request; anything but a 2xx ends the measurement."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if not 200 <= answer.status < 300:
            raise SystemExit(f"{method} {path}: {answer.status} {text[:500]!r}")
        return json.loads(text) if text else None


@contextlib.contextmanager
def server(command: Sequence[str | Path], port: int, folder: Path, environment: Mapping[str, str]) -> Iterator[Server]:
    """Runs a server for the duration of the block; its output goes to `folder`."""
    log = folder / f"log-{port}.txt"
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen([str(part) for part in command], stdout=output, stderr=subprocess.STDOUT,
                                   stdin=subprocess.DEVNULL, cwd=folder, env=dict(environment))
        running = Server(process, port, log, started)
        try:
            yield running
        finally:
            running.stop()


@contextlib.contextmanager
def jarvis(binary: Path, data: Path, role: str = "serve", *flags: str,
           settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A Jarvis on the data directory `data`, with further settings as `JARVIS_…` variables."""
    port = free_port()
    command = [binary.resolve(), role, "--data-dir", data, "--listen", f"127.0.0.1:{port}",
               "--admin-listen", f"127.0.0.1:{free_port()}", "--log", "warn", *flags]
    with server(command, port, data, clean_environment() | dict(settings or {})) as running:
        yield running


@contextlib.contextmanager
def fastapi(python: Path, folder: Path, app: str = "fastapi_backend",
            settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """The peer of the backend: FastAPI on uvicorn, one process, over a SQLite file unless `settings` say otherwise."""
    port = free_port()
    command = [python.absolute(), "-m", "uvicorn", "--app-dir", BENCH / "peers", f"{app}:app", "--port", str(port),
               "--loop", "uvloop", "--http", "httptools", "--log-level", "error"]
    environment = {**os.environ, **(settings or {"PEER_DB": str(folder / "peer.db")})}
    with server(command, port, folder, environment) as running:
        running.wait_healthy("/token")
        yield running


@contextlib.contextmanager
def data_directory(models: Path | None = None) -> Iterator[Path]:
    """A fresh data directory; the models are linked into it, not copied."""
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=TARGET) as name:
        folder = Path(name)
        if models:
            if not models.is_dir():
                raise SystemExit(f"no models in {models}; fetch them: jarvis model fetch --data-dir {models.parent}")
            link_tree(models, folder / "models")
        yield folder


def link_tree(source: Path, target: Path) -> None:
    """Mirrors a folder with hard links."""
    target.mkdir()
    for entry in source.iterdir():
        if entry.is_dir():
            link_tree(entry, target / entry.name)
        else:
            os.link(entry, target / entry.name)


def register(running: Server, name: str) -> str:
    """A new account's access token."""
    body = {"email": f"{name}@example.org", "password": PASSWORD}
    return running.call("POST", "/api/v1/auth/register", body)["access_token"]


# --- The machine --------------------------------------------------------------------------------------------------


def busy_share(seconds: float = 0.5) -> float:
    """The share of all processors in use, over a short time."""
    def read() -> tuple[int, int]:
        ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(ticks), ticks[3] + ticks[4]

    total, idle = read()
    time.sleep(seconds)
    total_after, idle_after = read()
    elapsed = max(total_after - total, 1)
    return round(1 - (idle_after - idle) / elapsed, 3)


def quiet(limit: float) -> float:
    """Waits until nobody else uses the machine, at most `limit` seconds; returns the share in use all the same."""
    end = time.monotonic() + limit
    while (share := busy_share()) > 0.1 and time.monotonic() < end:
        time.sleep(1)
    return share


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())
    return {
        "cpu": cpu,
        "processors": os.cpu_count(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": platform.release(),
    }


def output_of(*command: str | Path) -> str:
    """What a command prints, or "unknown"."""
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, cwd=ROOT)
    except OSError:
        return "unknown"
    return (done.stdout or done.stderr).strip() or "unknown"


def program(binary: Path) -> str:
    """What was measured: the program's version and checksum, and the commit that was checked out."""
    digest = hashlib.sha256(binary.read_bytes()).hexdigest()[:12]
    changed = output_of("git", "status", "--porcelain", "--untracked-files=no", "--", "crates", "Cargo.toml", "Cargo.lock")
    at = output_of("git", "rev-parse", "--short=12", "HEAD") + ("" if changed == "unknown" else "+changes")
    return f"{output_of(binary.resolve(), '--version').split()[-1]} (commit {at}, sha256 {digest}…)"


def locked_version(crate: str) -> str:
    """The version of a Rust library that the program is built with."""
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    return next(package["version"] for package in lock["package"] if package["name"] == crate)


def package_versions(python: Path, *names: str) -> dict[str, str]:
    """Versions of installed Python packages."""
    program = "import sys, importlib.metadata as m, json; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    return json.loads(output_of(python.absolute(), "-c", program, *names))


# --- Results ------------------------------------------------------------------------------------------------------


@dataclass
class Figure:
    """One line of the published table. `jarvis` and `peer` are medians; `ratio` is the median of the ratios of each
    repetition, so that a machine that slows down half-way does not count for one side."""

    name: str
    unit: str
    jarvis: float
    peer: float | None = None
    ratio: float | None = None
    target: str | None = None
    met: bool | None = None


@dataclass
class Result:
    """Everything one script measured."""

    name: str
    title: str
    settings: dict[str, Any]
    versions: dict[str, str]
    repetitions: list[dict[str, Any]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    def values(self, key: Callable[[dict[str, Any]], float]) -> list[float]:
        """One value of each repetition."""
        return [key(repetition) for repetition in self.repetitions]

    def single(self, name: str, unit: str, key: Callable[[dict[str, Any]], float], at_most: float | None = None) -> None:
        """A figure without a peer."""
        value = statistics.median(self.values(key))
        self.figures.append(Figure(name, unit, value, target=at_most and f"≤ {at_most:g}",
                                   met=None if at_most is None else value <= at_most))

    def against(self, name: str, unit: str, jarvis: Callable[[dict[str, Any]], float],
                peer: Callable[[dict[str, Any]], float], *, more_is_better: bool = True,
                at_least: float | None = None) -> None:
        """A figure beside a peer's; the ratio says how many times better Jarvis is."""
        ours, theirs = self.values(jarvis), self.values(peer)
        pairs = zip(ours, theirs, strict=True)
        ratio = statistics.median(a / b if more_is_better else b / a for a, b in pairs)
        self.figures.append(Figure(name, unit, statistics.median(ours), statistics.median(theirs), ratio,
                                   at_least and f"≥ {at_least:g} ×", None if at_least is None else ratio >= at_least))

    def write(self, folder: Path) -> None:
        """Writes `<name>.json` and prints the figures."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "name": self.name,
            "title": self.title,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": self.versions,
            "settings": self.settings,
            "figures": [vars(figure) for figure in self.figures],
            "repetitions": self.repetitions,
        }
        (folder / f"{self.name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        for figure in self.figures:
            verdict = {None: "", True: "  met", False: "  MISSED"}[figure.met]
            peer = "" if figure.peer is None else f"  peer {figure.peer:,.4g}  ratio {figure.ratio:.3g}"
            target = f"  target {figure.target}" if figure.target else ""
            print(f"{figure.name}: {figure.jarvis:,.4g} {figure.unit}{peer}{target}{verdict}", flush=True)


def progress(text: str) -> None:
    """Says on the terminal how far a measurement is."""
    print(f"    {text}", flush=True)
