"""The disk is full: said clearly, nothing corrupted, and all is well when there is room again."""

import os
import sqlite3
from pathlib import Path

import pytest

from support.answers import check_count
from support.api import Account, new_answer
from support.jarvis import wait_for
from support.namespace import mounting

SIZE = "6m"


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
    return SmallDisk(servers, counting(last=2_500, pause=0.002))


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
    check_count(account.generation(again["generation_id"])["text"], 2_500)
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
    assert seen.end["reason"] == "storage_full", seen.end
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


def check_database(disk):
    """Looked at through a copy taken before the mount goes with its process."""
    copy = disk.server.home / "copy.db"
    with sqlite3.connect(disk.data / "jarvis.db") as db, sqlite3.connect(copy) as target:
        db.backup(target)
        assert target.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert disk.server.stop() == 0
