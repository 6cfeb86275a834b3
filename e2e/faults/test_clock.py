"""The clock is an hour off: who is signed in and who is not stays clear, whichever way it was set."""

import pytest

from support.answers import check_count
from support.api import Account
from support.preload import WrongClock

LAST = 50
HOUR = 3_600


class Server:
    """A server whose clock a test sets while it runs."""

    def __init__(self, servers, node):
        home = servers.home()
        self.clock = WrongClock(home)
        args = ("serve", "--no-engine", "--node", node.url)
        self.server = servers.start(*args, models=False, home=home, **self.clock.environment)


@pytest.fixture
def timed(servers, counting):
    return Server(servers, counting(last=LAST, pause=0))


def refused(account, code, token=None):
    headers = {"authorization": f"Bearer {token}"} if token else {}
    problem = account.call("GET", "/me", expect=401, headers=headers)
    assert problem["code"] == code, problem


def answers(account):
    check_count(account.ended(account.ask("Count.")["generation_id"])["text"], LAST)


def test_a_clock_an_hour_ahead_ends_tokens_but_no_sign_in(timed):
    account = Account(timed.server)
    early = account.token
    timed.clock.shift(HOUR)
    refused(account, "token_expired")
    account.refresh()
    answers(account)
    # Set right again: a token of the hour that is still to come is good, and so is one that had seemed too old.
    timed.clock.shift(0)
    answers(account)
    assert account.get("/me", headers={"authorization": f"Bearer {early}"})["email"] == account.email
    account.refresh()
    answers(account)


def test_a_clock_an_hour_behind_keeps_who_is_signed_in_and_revives_nobody(timed):
    account = Account(timed.server)
    timed.clock.shift(-HOUR)
    answers(account)
    account.refresh()
    answers(account)
    account.post("/auth/logout")
    left = account.token
    refused(account, "unauthorized", left)
    # No clock brings it back, whichever way it is set.
    timed.clock.shift(-2 * HOUR)
    refused(account, "unauthorized", left)
    timed.clock.shift(0)
    refused(account, "token_expired", left)
    account.post("/auth/login", {"email": account.email, "password": account.password})
