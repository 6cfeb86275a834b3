"""Every client meets an engine, and a balancer in front of two: what holds for one holds for the other."""

import pytest

from support.jarvis import model_names
from support.target import KINDS, Target


@pytest.fixture(scope="module", params=KINDS)
def target(request, shared_servers):
    made = Target(shared_servers, request.param)
    yield made
    made.end()


@pytest.fixture(scope="module")
def models(target):
    return model_names(target.url)
