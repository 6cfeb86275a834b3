"""Backends and stores die under a platform of three instances; what was shown stands, and the answer goes on."""

import os
import time

import httpx
import pytest

from support.answers import check_count
from support.api import new_answer
from support.jarvis import wait_for

# `scripts/chaos/platform` raises them; a short form is part of every test run.
ROUNDS = int(os.environ.get("JARVIS_TEST_ROUNDS", "1"))
OWNERS = int(os.environ.get("JARVIS_TEST_OWNERS", "1"))

# From the death of an owner to the next character, at most.
TAKE_OVER = 6.0


def follow(platform, instance, seen, until):
    """Reads on at an instance until `until(seen)` or the end."""
    with platform.at(instance).socket() as live:
        live.subscribe(seen)
        live.read(seen, until=until)


def down(instance):
    """What an instance says to be down, by name; it is ready all the same."""
    response = httpx.get(f"{instance.admin_url}/health/ready")
    assert response.status_code == 200, response.text
    return [part["name"] for part in response.json()["components"] if part["status"] != "ok"]


def check_whole(platform, accepted, seen, instance):
    account = platform.at(instance)
    generation = account.ended(accepted["generation_id"])
    assert generation["status"] == "done", generation
    if not seen.end:
        with account.socket() as live:
            live.subscribe(seen)
            live.read(seen)
    seen.check_kept(generation["text"])
    check_count(generation["text"], platform.node.last)


@pytest.mark.parametrize("round", range(OWNERS))
def test_an_owner_that_is_killed_is_followed_by_another(platform, round):
    first, *rest = platform.instances
    with platform.at(first).socket() as live:
        accepted = live.ask("Count.")
        seen = new_answer(accepted)
        goal = platform.random.randrange(50, 3_000)
        live.read(seen, until=lambda seen: len(seen.bytes) > goal)
        first.kill()
        died = time.monotonic()
        live.drain(seen)
    held = len(seen.bytes)
    follow(platform, rest[0], seen, lambda seen: len(seen.bytes) > held)
    took = time.monotonic() - died
    print(f"the next character came {took:.2f} s after the owner's death")
    assert took < TAKE_OVER
    check_whole(platform, accepted, seen, rest[1])


def test_a_reader_elsewhere_sees_the_same_live(platform):
    first, second, _ = platform.instances
    accepted = platform.at(first).ask("Count.")
    seen = new_answer(accepted)
    follow(platform, second, seen, None)
    check_whole(platform, accepted, seen, first)


def test_a_stop_reaches_the_owner_from_anywhere(platform):
    first, second, _ = platform.instances
    accepted = platform.at(first).ask("Count.")
    seen = new_answer(accepted)
    with platform.at(first).socket() as live:
        live.subscribe(seen)
        live.read(seen, until=lambda seen: len(seen.bytes) > 60)
        platform.at(second).cancel(accepted["generation_id"])
        live.read(seen)
    assert seen.end["status"] == "stopped"
    seen.check_kept(platform.account.generation(accepted["generation_id"])["text"])


def test_an_instance_that_stops_hands_over_at_once(platform):
    first, second, third = platform.instances
    accepted = platform.at(first).ask("Count.")
    seen = new_answer(accepted)
    follow(platform, second, seen, lambda seen: len(seen.bytes) > 300)
    assert first.stop() == 0
    follow(platform, second, seen, None)
    check_whole(platform, accepted, seen, third)


@pytest.mark.parametrize("round", range(ROUNDS))
@pytest.mark.parametrize("master", range(3))
def test_each_redis_master_may_go_and_come_back(platform, services, master, round):
    first, second, third = platform.instances
    accepted = platform.at(first).ask("Count.")
    seen = new_answer(accepted)
    follow(platform, first, seen, lambda seen: len(seen.bytes) > 300)
    services.tell(f"redis kill9 {master}")
    try:
        held = len(seen.bytes)
        follow(platform, first, seen, lambda seen: len(seen.bytes) > held + 300)
        assert down(first) == ["redis"]
    finally:
        services.tell(f"redis restart {master}")
    services.tell("redis whole")
    follow(platform, second, seen, None)
    check_whole(platform, accepted, seen, third)


@pytest.mark.parametrize("round", range(ROUNDS))
def test_the_database_fails_over_and_nothing_is_lost(platform, services, round):
    first, second, third = platform.instances
    services.tell("patroni standby")
    primary = services.tell("patroni primary")
    accepted = platform.at(first).ask("Count.")
    seen = new_answer(accepted)
    try:
        with platform.at(first).socket() as live:
            live.subscribe(seen)
            live.read(seen, until=lambda seen: len(seen.bytes) > 200)
            services.tell(f"patroni kill9 {primary}")
            # Without a database nobody can take the answer over, so its owner goes on.
            live.read(seen, until=lambda seen: len(seen.bytes) > 900)
        assert services.tell("patroni primary") != primary

        def writes():
            return platform.at(second).http.post(f"{platform.account.base}/conversations", json={}).status_code == 201

        wait_for(writes, "writing after the fail-over", patience=30)
        # Each instance finds the new primary by itself.
        wait_for(lambda: [name.split()[0] for name in down(third)] == ["postgresql"], "only the lost host to be missed")
    finally:
        services.tell(f"patroni restart {primary}")
    follow(platform, second, seen, None)
    check_whole(platform, accepted, seen, third)
