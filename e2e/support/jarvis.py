"""The real program as a process: started on free ports, stopped by its own process id."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import httpx

BINARY = Path(os.environ.get("JARVIS_TEST_BINARY", "target/debug/jarvis")).resolve()
MODELS = Path(os.environ.get("JARVIS_TEST_MODELS", "target/test-data/models")).resolve()

# Long enough for a slow machine; only ever waited for in full by a test that fails.
PATIENCE = 60.0
READY = "is ready: http://"
ADMIN = '"admin_address":"'


# A small window: even an answer that would never end is whole within seconds. One computing thread: two would wait
# for each other as soon as a browser or a test wants a core too.
QUICK = {"JARVIS_ENGINE_CONTEXT": "640", "JARVIS_ENGINE_THREADS": "1"}


def wait_for(condition, what, patience=PATIENCE):
    """Asks `condition` until it gives something true; fails by name when it never does."""
    end = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"waited {patience:.0f} s in vain for {what}")
        time.sleep(0.01)


def provide_models(data):
    """Gives a data directory the fetched models: large files as links to them, small ones as copies."""
    target = Path(data) / "models"
    for source in MODELS.rglob("*"):
        path = target / source.relative_to(MODELS)
        if source.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if source.stat().st_size < 1 << 20:
            shutil.copyfile(source, path)
            continue
        try:
            os.link(source, path)
        except OSError:
            shutil.copyfile(source, path)


def model_names(url):
    """The names of the two embedded models: one that talks, one that embeds."""
    listed = httpx.get(f"{url}/api/tags").json()["models"]

    def named(capability):
        return next(model["name"] for model in listed if capability in model["capabilities"])

    return {"chat": named("completion"), "embed": named("embedding")}


def environment(home, **more):
    """Nothing of this process's own configuration; the log as JSON; no look for another model server."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "JARVIS_LOG_FORMAT": "json",
        "JARVIS_NODES_DISCOVER": "false",
        **QUICK,
        **more,
    }


def run(home, *args, **more):
    """Runs a command to its end: (exit code, standard output, standard error)."""
    done = subprocess.run(
        [BINARY, *map(str, args)],
        env=environment(home, **more),
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return done.returncode, done.stdout, done.stderr


class Jarvis:
    """One role over one data directory; may be stopped, killed and started again on the same ports."""

    def __init__(self, home, role="serve", *args, prefix=(), public="127.0.0.1:0", **more):
        self.home = Path(home)
        self.data = self.home / "data"
        self.role = role
        self.args = args
        self.prefix = prefix
        self.more = more
        self.public = public
        self.admin = "127.0.0.1:0"
        self.process = None
        self.out = self.home / "stdout.log"
        self.err = self.home / "stderr.log"

    @property
    def url(self):
        return f"http://{self.public}"

    @property
    def admin_url(self):
        return f"http://{self.admin}"

    @property
    def pid(self):
        return self.process.pid

    def command(self):
        where = ["--listen", self.public, "--admin-listen", self.admin, "--data-dir", self.data]
        return [*self.prefix, BINARY, self.role, *where, *self.args]

    def spawn(self):
        """Starts it without waiting for anything."""
        self._out_from, self._err_from = self._size(self.out), self._size(self.err)
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self.process = subprocess.Popen(
                list(map(str, self.command())),
                env=environment(self.home, **self.more),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        return self

    def start(self):
        """Starts it and returns when it has said that it is ready."""
        self.spawn()
        self.public = wait_for(lambda: self._said(self.out, self._out_from, READY, "\n"), "the start")
        self.admin = wait_for(lambda: self._said(self.err, self._err_from, ADMIN, '"'), "the admin address")
        return self

    def signal(self, number):
        os.kill(self.pid, number)

    def wait(self, patience=PATIENCE):
        """Its exit code, once it has ended."""
        return self.process.wait(timeout=patience)

    def stop(self):
        """Asks it to stop; gives its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self):
        """Kills it as a power cut of the process would."""
        self.signal(signal.SIGKILL)
        self.wait()

    def end(self):
        """For the end of a test: it is gone afterwards, whatever happened."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def stdout(self):
        return self.out.read_text() if self.out.exists() else ""

    def stderr(self):
        return self.err.read_text() if self.err.exists() else ""

    def events(self):
        """The log, one object for each line that is one."""
        return [json.loads(line) for line in self.stderr().splitlines() if line.startswith("{")]

    @staticmethod
    def _size(path):
        return path.stat().st_size if path.exists() else 0

    def _said(self, path, begin, before, after):
        if self.process.poll() is not None:
            raise AssertionError(f"it ended with {self.process.returncode}:\n{self.stderr()}")
        text = path.read_bytes()[begin:].decode()
        _, found, rest = text.partition(before)
        value, whole, _ = rest.partition(after)
        return value.strip() if found and whole else None
