"""Servers for the tests: each over a directory of its own, each stopped at the end, its log shown when a test fails."""

import signal
import tempfile
from pathlib import Path

import pytest

pytest.register_assert_rewrite("support.stream")

from support.api import Account
from support.counting import CountingNode
from support.jarvis import BINARY, MODELS, Jarvis, model_names, provide_models

SHOWN = 6_000


def pytest_configure(config):
    # A run that is told to stop ends its servers first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not BINARY.exists():
        pytest.exit(f"{BINARY} is not there; build it, or name another with JARVIS_TEST_BINARY", returncode=2)
    if not any(MODELS.rglob("*")):
        pytest.exit(f"{MODELS} holds no models; `jarvis model fetch --data-dir {MODELS.parent}` fetches them", returncode=2)


class Servers:
    """Makes servers and ends them."""

    def __init__(self):
        self.all = []
        self.directories = []

    def home(self):
        directory = tempfile.TemporaryDirectory(prefix="jarvis-e2e-", ignore_cleanup_errors=True)
        self.directories.append(directory)
        return Path(directory.name)

    def make(self, role="serve", *args, models=True, home=None, **more):
        """A server that is not started yet."""
        server = Jarvis(home or self.home(), role, *args, **more)
        if models:
            provide_models(server.data)
        self.all.append(server)
        return server

    def start(self, role="serve", *args, **more):
        return self.make(role, *args, **more).start()

    def report(self):
        for number, server in enumerate(self.all):
            state = server.process.poll() if server.process else "never started"
            yield f"{server.role} #{number} (exit: {state})", server.stdout() + server.stderr()[-SHOWN:]

    def end(self):
        for server in self.all:
            server.end()
        for directory in self.directories:
            directory.cleanup()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        for name in item.fixturenames:
            servers = item.funcargs.get(name)
            if isinstance(servers, Servers):
                report.sections += [(f"log of {title}", text) for title, text in servers.report()]
    return report


@pytest.fixture
def servers():
    made = Servers()
    yield made
    made.end()


@pytest.fixture
def counting():
    """Makes model servers that count; each is closed at the end."""
    made = []

    def make(**options):
        made.append(CountingNode(**options))
        return made[-1]

    yield make
    for node in made:
        node.close()


@pytest.fixture(scope="module")
def shared_servers():
    made = Servers()
    yield made
    made.end()


@pytest.fixture(scope="module")
def engine(shared_servers):
    """One model server for a file of tests."""
    return shared_servers.start("engine")


@pytest.fixture(scope="module")
def models(engine):
    return model_names(engine.url)


@pytest.fixture(scope="module")
def serve(shared_servers):
    """One whole Jarvis for a file of tests."""
    return shared_servers.start("serve")


@pytest.fixture(scope="module")
def account(serve):
    return Account(serve)
