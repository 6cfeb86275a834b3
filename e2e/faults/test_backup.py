"""A backup taken while answers are made holds what their readers were shown, and the restored installation goes on from there."""

import sqlite3

import pytest

from support.answers import check_count
from support.api import Account, new_answer
from support.jarvis import run

LAST = 2_500


@pytest.fixture
def passphrase(tmp_path):
    file = tmp_path / "passphrase"
    file.write_text("open sesame")
    return file


def test_an_answer_in_the_making_goes_on_in_the_restored_installation(servers, counting, passphrase, tmp_path):
    node = counting(last=LAST, pause=0.002)
    args = ("serve", "--no-engine", "--node", node.url)
    first = servers.start(*args, models=False)
    account = Account(first)
    before = account.ended(account.ask("Count.")["generation_id"], patience=120)
    archive = tmp_path / "jarvis.age"
    with account.socket() as live:
        accepted = live.ask("Count again.")
        seen = live.read(new_answer(accepted), until=lambda seen: len(seen.bytes) > 1_000)
        code, _, said = run(first.home, "backup", archive, "--passphrase-file", passphrase, "--verify", "--data-dir", first.data)
        assert code == 0, said
        # It was not disturbed.
        live.read(seen)
    assert seen.end["type"] == "done"

    second = servers.make(*args, models=False)
    code, _, said = run(second.home, "restore", archive, "--passphrase-file", passphrase, "--data-dir", second.data)
    assert code == 0, said
    node.pause = 0
    second.start()
    there = account.at(second)
    text = there.ended(accepted["generation_id"])["text"]
    check_count(text, LAST)
    assert there.generation(before["id"])["text"] == before["text"]
    # All that had been shown when the backup was taken, and more of the same.
    held = node.requests[-1]["jarvis"]["continue"]["text"]
    assert len(held.encode()) > 1_000 and text.startswith(held)


def test_backups_taken_while_answers_end_hold_each_answer(servers, counting, passphrase, tmp_path):
    """However an answer's end falls between the snapshot and the look into its file: its text is there, or it had none yet."""
    node = counting(last=20, pause=0)
    server = servers.start("serve", "--no-engine", "--node", node.url, models=False)
    account = Account(server)
    ended = []
    for number in range(5):
        asked = [account.ask("Count.")["generation_id"] for _ in range(6)]
        archive = tmp_path / f"{number}.age"
        code, _, said = run(server.home, "backup", archive, "--passphrase-file", passphrase, "--data-dir", server.data)
        assert code == 0, said
        target = servers.home()
        code, _, said = run(target, "restore", archive, "--passphrase-file", passphrase, "--data-dir", target / "data")
        assert code == 0, said
        texts = restored(target / "data" / "jarvis.db")
        for generation in ended:
            assert texts[generation] == ("done", account.generation(generation)["text"])
        for generation in asked:
            status, text = texts[generation]
            whole = account.ended(generation)["text"]
            assert text == whole if status == "done" else whole.startswith(text), (status, text)
        ended += asked


def restored(path):
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT g.id, g.status, m.content FROM generations g JOIN messages m ON m.id = g.message_id")
        return {generation: (status, text) for generation, status, text in rows}
