"""PostgreSQL, Patroni and Redis as the Rust tests start them, told what to do by lines."""

import json
import os
import subprocess
from pathlib import Path

from support.jarvis import BINARY

PROGRAM = Path(os.environ.get("JARVIS_TEST_SERVICES", BINARY.parent / "examples" / "services")).resolve()


class Services:
    """`Services("patroni:2", "redis")`; everything is gone after `end()`, and with this process."""

    def __init__(self, *names):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([PROGRAM, *names], text=True, bufsize=1, **pipes)
        self.places = json.loads(self._line())

    def tell(self, line):
        """Carries out a command such as `redis kill9 1`; gives what it says."""
        self.process.stdin.write(f"{line}\n")
        answer = self._line()
        verdict, _, told = answer.strip().partition(" ")
        assert verdict == "ok", answer
        return told

    def settings(self):
        """What an instance of Jarvis is told of them."""
        settings = {}
        for database in ("postgres", "patroni"):
            if place := self.places.get(database):
                settings |= {"JARVIS_STORE_URL": place["url"], "JARVIS_STORE_PASSWORD": place["password"]}
        if place := self.places.get("redis"):
            settings |= {"JARVIS_REDIS_NODES": ",".join(place["nodes"]), "JARVIS_REDIS_PASSWORD": place["password"]}
        return settings

    def end(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def _line(self):
        line = self.process.stdout.readline()
        assert line, f"the services ended with {self.process.wait()}"
        return line
