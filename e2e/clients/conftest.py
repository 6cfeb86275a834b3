"""Every client meets an engine, and a balancer in front of two: what holds for one holds for the other."""

import httpx
import pytest

from support.target import KINDS, Target


@pytest.fixture(scope="module", params=KINDS)
def target(request, shared_servers):
    made = Target(shared_servers, request.param)
    yield made
    made.end()


@pytest.fixture(scope="module")
def models(target):
    """The names of the two embedded models: one that talks, one that embeds."""
    listed = httpx.get(f"{target.url}/api/tags").json()["models"]

    def named(capability):
        return next(model["name"] for model in listed if capability in model["capabilities"])

    return {"chat": named("completion"), "embed": named("embedding")}
