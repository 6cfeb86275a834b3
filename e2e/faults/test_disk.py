"""The disk is full or fails: said clearly, nothing corrupted, and all is well when it is."""

import os
import sqlite3
from pathlib import Path

import httpx
import pytest

from support.answers import check_count
from support.api import Account, new_answer
from support.preload import BadDisk
from support.jarvis import wait_for
from support.namespace import mounting

SIZE = "6m"
LAST = 2_500


class SmallDisk:
    """A server whose data directory is a disk of a few megabytes."""

    def __init__(self, servers, node):
        self.server = servers.make("serve", "--no-engine", "--node", node.url, models=False)
        self.server.data.mkdir()
        self.server.prefix = mounting(f"mount -t tmpfs -o size={SIZE} none {self.server.data}")
        self.server.start()
        # The mount is seen only from inside; this is a way in.
        self.data = Path(f"/proc/{self.server.pid}/root{self.server.data}")
        self.filler = self.data / "filler"

    def fill(self):
        with self.filler.open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError as error:
                    assert error.errno == 28, error
        free = os.statvfs(self.data)
        assert free.f_bavail == 0

    def free(self):
        self.filler.unlink()


@pytest.fixture
def disk(servers, counting):
    return SmallDisk(servers, counting(last=LAST, pause=0.002))


def until_full(account, disk):
    """Writes until the database, which has some room of its own, has none either."""
    for number in range(5_000):
        disk.fill()
        response = account.http.post(f"{account.base}/conversations", json={"title": f"{number} " + "x" * 150})
        if response.status_code != 201:
            return response
    raise AssertionError("the disk never was full")


def test_a_full_disk_refuses_clearly_and_recovers(disk):
    account = Account(disk.server)
    before = account.ask("Count.")
    assert account.ended(before["generation_id"])["status"] == "done"
    refusal = until_full(account, disk)
    assert refusal.status_code == 507, refusal.text
    assert refusal.json()["code"] == "storage_full"
    conversation = before["conversation_id"]
    response = account.http.post(f"{account.base}/conversations/{conversation}/messages", json={"content": "Again. " * 2_000})
    assert response.status_code == 507 and response.json()["code"] == "storage_full", response.text
    # Reading goes on, and the page can say what is wrong.
    assert len(account.messages(conversation)) == 2
    assert account.http.get(f"{disk.server.url}/health").json() == {"status": "ok"}
    storage = wait_for(lambda: degraded(account), "the status to say so")
    assert storage["name"] in ("store", "answers") and "space" in storage["detail"], storage
    disk.free()
    again = account.ask("Count again.", conversation)
    assert account.ended(again["generation_id"])["status"] == "done"
    check_count(account.generation(again["generation_id"])["text"], LAST)
    wait_for(lambda: account.get("/status")["status"] == "ok", "the status to be well again")
    check_database(disk)


def degraded(account):
    components = account.get("/status")["components"]
    return next((one for one in components if one["status"] != "ok"), None)


def test_a_disk_that_fills_in_mid_answer_keeps_what_was_shown(disk):
    account = Account(disk.server)
    with account.socket() as live:
        accepted = live.ask("Count.")
        seen = live.read(new_answer(accepted), until=lambda seen: len(seen.bytes) > 1_000)
        disk.fill()
        live.read(seen)
    assert seen.end["type"] == "interrupted", seen.end
    assert (seen.end["reason"], seen.end["status"]) == ("storage_full", "running"), seen.end
    disk.free()

    # The text is there at once, from the log; the database takes it when there is room again.
    seen.check_kept(account.generation(accepted["generation_id"])["text"])

    def kept():
        message = account.messages(accepted["conversation_id"])[-1]
        return message if message["generation"]["status"] == "interrupted" else None

    assert wait_for(kept, "the end to be kept")["content"] == seen.text
    again = account.post(f"/conversations/{accepted['conversation_id']}/regenerate", {"parent_id": accepted["message_id"]})
    assert account.ended(again["generation_id"])["status"] == "done"
    check_database(disk)


class FailingDisk(BadDisk):
    """A server whose reads go well and whose writes fail when a test says so."""

    def __init__(self, servers, node, **more):
        home = servers.home()
        super().__init__(home)
        self.node = node
        args = ("serve", "--no-engine", "--node", node.url)
        self.server = servers.start(*args, models=False, home=home, **self.environment, **more)
        self.data = self.server.data

    def heal(self):
        """From here on nothing happens in mid-answer any more."""
        super().heal()
        self.node.pause = 0


@pytest.fixture
def failing(servers, counting):
    return lambda **more: FailingDisk(servers, counting(last=LAST, pause=0.002), **more)


# What is pressed onto the disk at every commit fails in another way: the bytes are written by then.
WRITES = ("write", "normal")
SYNCS = ("sync", "full")


@pytest.mark.parametrize(("call", "synchronous"), [WRITES, SYNCS])
def test_a_database_that_cannot_be_written_refuses_clearly_and_recovers(failing, call, synchronous):
    disk = failing(JARVIS_STORE_SYNCHRONOUS=synchronous)
    disk.node.pause = 0
    account = Account(disk.server)
    first = account.ask("Count.")
    conversation = first["conversation_id"]
    account.ended(first["generation_id"])
    before = account.messages(conversation)

    disk.fail(f"{call} /jarvis.db")
    for number in range(3):
        refuses(account, conversation, f"refused-{number}")
    assert account.messages(conversation) == before
    assert account.http.get(f"{disk.server.url}/health").json() == {"status": "ok"}
    store = next(one for one in readiness(disk)["components"] if one["name"] == "store")
    assert store["status"] == "down", store
    assert store["detail"].startswith("the database can be read, but not written: "), store
    assert account.get("/status")["status"] == "degraded"

    # Nobody has to write first.
    disk.heal()
    assert readiness(disk)["status"] == "ok"
    again = account.ask("Count again.", conversation, key="refused-0")
    assert account.ask("Count again.", conversation, key="refused-0")["message_id"] == again["message_id"]
    check_count(account.ended(again["generation_id"])["text"], LAST)
    # Those that were acknowledged, and of those that were refused nothing.
    kept = account.messages(conversation)
    assert kept[: len(before)] == before and [one["role"] for one in kept[len(before) :]] == ["user", "assistant"]
    check_database(disk)


def readiness(disk):
    return httpx.get(f"{disk.server.admin_url}/health/ready").json()


def refuses(account, conversation, key):
    response = account.http.post(
        f"{account.base}/conversations/{conversation}/messages",
        json={"content": "Count again."},
        headers={"Idempotency-Key": key},
    )
    assert response.status_code == 503, response.text
    assert response.headers["content-type"] == "application/problem+json" and response.headers["retry-after"]
    problem = response.json()
    assert problem["code"] == "store_unavailable" and "generation_id" not in problem, problem
    for ugly in (account.token, "jarvis.db", "/", "Os {", "Error("):
        assert ugly not in problem["detail"], problem


@pytest.mark.parametrize(("call", "synchronous"), [WRITES, SYNCS])
def test_an_answer_that_cannot_be_logged_any_more_ends_with_what_was_shown(failing, call, synchronous):
    disk = failing(JARVIS_STORE_SYNCHRONOUS=synchronous)
    account = Account(disk.server)
    seen, accepted = cut_off(account, disk, f"{call} /answers/")
    assert (seen.end["type"], seen.end["reason"], seen.end["status"]) == ("interrupted", "storage_failed", "interrupted"), seen.end
    # The database works: it has the end at once, and exactly what was shown.
    kept = account.ended(accepted["generation_id"])
    assert kept["status"] == "interrupted"
    seen.check_kept(kept["text"])
    assert account.messages(accepted["conversation_id"])[-1]["content"] == seen.text
    # Nor is anything shown of an answer that has no log from its beginning.
    failed = account.ended(account.ask("Count.")["generation_id"])
    assert (failed["status"], failed["text"], failed["error"]["code"]) == ("failed", "", "storage_failed"), failed
    if call == "write":
        answers = degraded(account)
        assert answers["name"] == "answers" and answers["detail"] == "the answer's file cannot be used", answers
        ready = readiness(disk)
        assert ready["status"] == "degraded" and answers in ready["components"], ready

    disk.heal()
    assert degraded(account) is None
    again = account.post(f"/conversations/{accepted['conversation_id']}/regenerate", {"parent_id": accepted["message_id"]})
    check_count(account.ended(again["generation_id"])["text"], LAST)
    check_database(disk)


def test_a_server_killed_while_nothing_can_be_written_has_what_was_shown(failing):
    disk = failing()
    account = Account(disk.server)
    seen, accepted = cut_off(account, disk, f"write {disk.data}/")
    assert (seen.end["type"], seen.end["reason"]) == ("interrupted", "storage_failed"), seen.end
    # That is no end: nobody could write one down, and whoever asks is told so.
    assert seen.end["status"] == "running", seen.end
    shown = account.generation(accepted["generation_id"])
    assert (shown["status"], shown["error"]["code"]) == ("running", "storage_failed"), shown
    seen.check_kept(shown["text"])
    disk.server.kill()

    # So the next one goes on from what was shown.
    disk.heal()
    disk.server.start()
    text = account.ended(accepted["generation_id"])["text"]
    check_count(text, LAST)
    first, second = disk.node.requests
    assert "continue" not in first["jarvis"]
    seen.check_kept(second["jarvis"]["continue"]["text"])
    assert account.messages(accepted["conversation_id"])[-1]["content"] == text
    check_database(disk)


def test_a_disk_that_fails_at_the_start_is_named(failing):
    disk = failing()
    account = Account(disk.server)
    conversation = account.conversation()
    assert disk.server.stop() == 0
    for call in ("write", "sync"):
        disk.fail(f"{call} {disk.data}/")
        assert disk.server.spawn().wait() == 1
        said = disk.server.stderr().splitlines()[-1]
        assert said.startswith("jarvis: ") and str(disk.data) in said and "Input/output error" in said, said
    disk.heal()
    disk.server.start()
    assert account.get(f"/conversations/{conversation}")["id"] == conversation
    check_database(disk)


def cut_off(account, disk, rule):
    """Asks, and fails the disk in mid-answer; what was shown and what was accepted."""
    with account.socket() as live:
        accepted = live.ask("Count.")
        seen = live.read(new_answer(accepted), until=lambda seen: len(seen.bytes) > 1_000)
        disk.fail(rule)
        live.read(seen)
    assert len(seen.bytes) > 1_000
    return seen, accepted


def check_database(disk):
    """Looked at through a copy taken before the mount goes with its process."""
    copy = disk.server.home / "copy.db"
    with sqlite3.connect(disk.data / "jarvis.db") as db, sqlite3.connect(copy) as target:
        db.backup(target)
        assert target.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert disk.server.stop() == 0
