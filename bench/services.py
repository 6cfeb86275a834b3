"""PostgreSQL and Redis for measurements, as the tests start them (`crates/testkit/examples/services.rs`)."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import harness

PROGRAM = harness.TARGET / "release" / "examples" / "services"


class Services:
    """Servers that run for as long as this one is not ended."""

    def __init__(self, *names: str) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([PROGRAM, *names], text=True, bufsize=1, **pipes)
        self.places = json.loads(self._line())

    def _line(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the servers ended with {self.process.wait()}")
        return line

    def database(self) -> Database:
        """A further, empty database."""
        self.process.stdin.write("postgres database\n")
        verdict, _, url = self._line().strip().partition(" ")
        if verdict != "ok":
            raise SystemExit(f"no database was made: {url}")
        return Database(url, self.places["postgres"]["password"])

    def redis(self) -> dict[str, str]:
        """What an instance of Jarvis is told of the Redis Cluster."""
        place = self.places["redis"]
        return {"JARVIS_REDIS_NODES": ",".join(place["nodes"]), "JARVIS_REDIS_PASSWORD": place["password"]}

    def end(self) -> None:
        """Ends them all; their data goes too."""
        self.process.stdin.close()
        self.process.wait(timeout=60)


class Database:
    """One database of the PostgreSQL server, and its owner."""

    def __init__(self, url: str, password: str) -> None:
        self.url, self.password = url, password
        parts = urlsplit(url)
        self.user, self.port, self.name = parts.username, parts.port, parts.path.lstrip("/")

    def jarvis(self) -> dict[str, str]:
        """What an instance of Jarvis is told of it."""
        return {"JARVIS_STORE_URL": self.url, "JARVIS_STORE_PASSWORD": self.password}

    def environment(self) -> dict[str, str]:
        """What PostgreSQL's own programs and drivers are told of it."""
        return {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": self.user, "PGPASSWORD": self.password,
                "PGDATABASE": self.name}

    def sql(self, text: str) -> str:
        """Runs statements: the values that came back, a line for a row."""
        command = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1",
                   "--command", text]
        environment = harness.clean_environment() | self.environment()
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise SystemExit(f"{text}: {done.stderr}")
        return done.stdout.strip()


@contextlib.contextmanager
def services(*names: str) -> Iterator[Services]:
    """Servers for the duration of the block."""
    if not Path(PROGRAM).exists():
        raise SystemExit(f"{PROGRAM} is not built: cargo build --release --package jarvis-testkit --example services")
    running = Services(*names)
    try:
        yield running
    finally:
        running.end()
