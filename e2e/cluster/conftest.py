"""Instances over one database and one Redis Cluster, and a model server that counts."""

import random
import uuid

import pytest

from support.api import Account
from support.services import Services

SECRET = "one secret for all the instances of this installation"


class Platform:
    """Some instances of `api` that share everything; readers go from one to the other."""

    def __init__(self, servers, services, node, count=3):
        settings = {"JARVIS_AUTH_SECRET": SECRET, "JARVIS_AUTH_REGISTRATION": "open", **services.settings()}
        self.services = services
        self.node = node
        self.instances = [
            servers.start("api", "--node", node.url, models=False, **settings) for _ in range(count)
        ]
        self.account = Account(self.instances[0], email=f"{uuid.uuid4()}@example.org")
        self.random = random.Random(11)

    def at(self, instance):
        """The same person at another instance."""
        self.account.jarvis = instance
        return self.account


@pytest.fixture(scope="module")
def services():
    started = Services("patroni:2", "redis")
    yield started
    started.end()


@pytest.fixture
def platform(servers, services, counting):
    return Platform(servers, services, counting(last=2_000, pause=0.004))
