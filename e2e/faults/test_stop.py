"""The process ends in mid-answer, by request or by force; the answer does not."""

import os
import signal
import socket
import sqlite3
import threading

import httpx
import pytest

from support.answers import check_count
from support.api import Account, LONG, follow_events, new_answer
from support.jarvis import wait_for

# Rounds of the long kill; `scripts/chaos/serve` raises them.
KILLS = int(os.environ.get("JARVIS_TEST_KILLS", "10"))


def integrity(server):
    with sqlite3.connect(server.data / "jarvis.db") as db:
        return db.execute("PRAGMA integrity_check").fetchall()


def go_on(account, seen, until=None):
    """Connects anew and reads on from where the reader was."""
    with account.socket() as again:
        again.subscribe(seen)
        again.read(seen, until)


def check_end(account, accepted, seen, status="done"):
    """What was shown, what the generation says and what the message holds are one text."""
    generation = account.ended(accepted["generation_id"])
    assert generation["status"] == status, generation
    seen.check_kept(generation["text"])
    messages = {message["id"]: message for message in account.messages(accepted["conversation_id"])}
    assert messages[accepted["assistant_message_id"]]["content"] == generation["text"]
    assert generation["offset"] == len(generation["text"].encode())
    return generation


def test_a_stop_in_mid_answer_hands_it_to_the_next_start(servers):
    server = servers.start()
    account = Account(server)
    with account.socket() as live:
        accepted = live.ask()
        seen = live.read(new_answer(accepted), until=lambda seen: len(seen.bytes) > 200)
        server.signal(signal.SIGTERM)
        live.drain(seen)
    assert server.wait() == 0
    assert not seen.end
    server.start()
    shown = len(seen.bytes)
    go_on(account, seen)
    assert len(seen.bytes) > shown
    check_end(account, accepted, seen)
    assert server.stop() == 0
    assert integrity(server) == [("ok",)]


@pytest.mark.timeout(60 + 15 * KILLS)
def test_a_killed_server_loses_no_character_and_no_acknowledged_write(servers):
    """Real model, many kills at different moments: before the first character, soon after, later."""
    server = servers.start()
    account = Account(server)
    made, asked = [], []
    for number in range(KILLS):
        account.refresh()
        writer = Writer(account)
        with account.socket() as live:
            accepted = live.ask(LONG)
            bystander = account.ask("Count slowly to one hundred.")
            asked += [accepted, bystander]
            seen = new_answer(accepted)
            if number % 40:
                live.read(seen, until=lambda seen: len(seen.bytes) > 37 * (number % 40))
            server.kill()
            live.drain(seen)
        made += writer.stop()
        server.start()
        goal = len(seen.bytes) + 60
        go_on(account, seen, until=lambda seen: len(seen.bytes) > goal)
        if number == KILLS - 1:
            go_on(account, seen)
            check_end(account, accepted, seen)
            continue
        for begun in (accepted, bystander):
            account.cancel(begun["generation_id"])
        generation = account.ended(accepted["generation_id"])
        seen.check_kept(generation["text"])
        account.ended(bystander["generation_id"])
    check_acknowledged(account, asked, made)
    assert server.stop() == 0
    assert integrity(server) == [("ok",)]


def check_acknowledged(account, asked, made):
    for accepted in asked:
        ids = [message["id"] for message in account.messages(accepted["conversation_id"])]
        assert ids == [accepted["message_id"], accepted["assistant_message_id"]], accepted
    assert made, "nothing was written while it was killed"
    kept, cursor = set(), None
    while True:
        page = account.get("/conversations", params={"limit": 100, **({"cursor": cursor} if cursor else {})})
        kept |= {conversation["id"] for conversation in page["items"]}
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert set(made) <= kept, f"{len(set(made) - kept)} of {len(made)} acknowledged writes are gone"


class Writer:
    """Makes conversations as fast as it can, and remembers those that were acknowledged."""

    def __init__(self, account):
        self.account = account
        self.acknowledged = []
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        headers = dict(self.account.http.headers)
        with httpx.Client(headers=headers) as client:
            try:
                while len(self.acknowledged) < 500:
                    response = client.post(f"{self.account.base}/conversations", json={"title": "x"})
                    assert response.status_code == 201, response.text
                    self.acknowledged.append(response.json()["id"])
            except httpx.TransportError:
                pass

    def stop(self):
        self.thread.join()
        return self.acknowledged


def count_with(servers, node):
    return servers.make("serve", "--no-engine", "--node", node.url, models=False).start()


@pytest.mark.parametrize("kills", [1, 2])
def test_every_seam_is_exact(servers, counting, kills):
    """A model that counts: a character lost, doubled or cut at any seam would show, even one never shown before."""
    node = counting(last=1_500)
    server = count_with(servers, node)
    account = Account(server)
    for round in range(4):
        with account.socket() as live:
            accepted = live.ask("Count.")
            seen = new_answer(accepted)
            live.read(seen, until=lambda seen: len(seen.bytes) > 900 * round)
            server.kill()
            live.drain(seen)
        for _ in range(kills - 1):
            server.start()
            goal = len(seen.bytes) + 700
            with account.socket() as live:
                live.subscribe(seen)
                live.read(seen, until=lambda seen: len(seen.bytes) > goal)
                server.kill()
                live.drain(seen)
        server.start()
        go_on(account, seen)
        generation = check_end(account, accepted, seen)
        check_count(generation["text"], node.last)
    continued = [request for request in node.requests if (request.get("jarvis") or {}).get("continue")]
    assert len(continued) >= 4 * kills - 1


def test_a_node_that_drops_the_connection_is_not_noticed(servers, counting):
    """Cut inside records and characters, one continuation after the other."""
    node = counting(last=1_500, cuts=[1_000, 2_500])
    account = Account(count_with(servers, node))
    with account.socket() as live:
        accepted = live.ask("Count.")
        seen = live.read(new_answer(accepted))
    generation = check_end(account, accepted, seen)
    check_count(generation["text"], node.last)
    assert len(node.requests) == 3


def test_an_answer_that_took_three_servers_with_it_is_given_up(servers, counting):
    node = counting(last=20_000, pause=0.005)
    server = count_with(servers, node)
    account = Account(server)
    accepted = account.ask("Count.")
    seen = new_answer(accepted)
    for _ in range(3):
        goal = len(seen.bytes) + 200
        with account.socket() as live:
            live.subscribe(seen)
            live.read(seen, until=lambda seen: len(seen.bytes) > goal)
            server.kill()
            live.drain(seen)
        server.start()
    generation = account.ended(accepted["generation_id"])
    assert generation["status"] == "interrupted" and generation["error"]["code"], generation
    seen.check_kept(generation["text"])


def test_two_readers_by_two_ways_see_the_same(servers, counting):
    node = counting(last=1_200)
    server = count_with(servers, node)
    account = Account(server)
    accepted = account.ask("Count.")
    whole = new_answer(accepted)
    ids = follow_events(account, whole)
    check_count(whole.text, node.last)
    late = new_answer(accepted)
    go_on(account, late)
    assert late.text == whole.text
    # From the middle, by the id of an event.
    epoch, offset = ids[len(ids) // 2].split("-")
    rest = new_answer(accepted)
    rest.bytes += whole.bytes[: int(offset)]
    follow_events(account, rest, last=f"{epoch}-{offset}")
    assert rest.text == whole.text


def test_a_question_sent_twice_is_answered_once(servers, counting):
    server = count_with(servers, counting(last=300))
    account = Account(server)
    conversation = account.conversation()
    first = account.ask("Count.", conversation, key="the-same-key")
    server.kill()
    server.start()
    assert account.ask("Count.", conversation, key="the-same-key") == first
    account.ended(first["generation_id"])
    assert len(account.messages(conversation)) == 2


def test_a_second_signal_ends_what_the_first_waits_for(servers):
    server = servers.start(JARVIS_SERVER_SHUTDOWN_SECONDS="600")
    host, port = server.public.split(":")
    with socket.create_connection((host, int(port))) as slow:
        # A request whose body never comes keeps the first stop waiting.
        slow.sendall(b"POST /api/v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        account = Account(server)
        account.get("/me")
        server.signal(signal.SIGTERM)

        wait_for(lambda: refuses(server.public) and refuses(server.admin), "the stop to begin")
        assert server.process.poll() is None
        server.signal(signal.SIGTERM)
        assert server.wait(patience=20) == 1
    assert "jarvis: stopped at once by a second signal (SIGTERM)" in server.stderr()
    assert any("second signal" in event["fields"]["message"] for event in server.events())


def refuses(address):
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port))).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False
