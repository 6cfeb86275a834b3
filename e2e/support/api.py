"""A client of the public interface: REST and WebSocket, as the page uses them."""

import copy
import json
import time
import uuid

import httpx
from websockets import ConnectionClosed
from websockets.sync.client import connect

from support.answers import Broken, Seen
from support.jarvis import PATIENCE, wait_for

PASSWORD = "correct-horse-battery"
LONG = "Write a very long story about a lighthouse keeper and the sea. Tell it chapter by chapter, in detail."
ENDED = ("done", "stopped", "interrupted", "failed")


class Account:
    """Somebody signed in."""

    def __init__(self, jarvis, email="ada@example.org", password=PASSWORD, **register):
        self.jarvis = jarvis
        self.email = email
        self.password = password
        # A connection to a server that was killed is of no use to its successor.
        self.http = httpx.Client(timeout=PATIENCE, limits=httpx.Limits(max_keepalive_connections=0))
        body = {"email": email, "password": password, **register}
        self._adopt(self.http.post(f"{self.base}/auth/register", json=body))

    @property
    def base(self):
        return f"{self.jarvis.url}/api/v1"

    def _adopt(self, response):
        assert response.is_success, response.text
        self.token = response.json()["access_token"]
        self.http.headers["authorization"] = f"Bearer {self.token}"

    def at(self, jarvis):
        """The same account, signed in at another server that knows it."""
        other = copy.copy(self)
        other.jarvis = jarvis
        other.http = httpx.Client(timeout=PATIENCE, limits=httpx.Limits(max_keepalive_connections=0))
        other._adopt(other.http.post(f"{other.base}/auth/login", json={"email": self.email, "password": self.password}))
        return other

    def refresh(self):
        """A new token: one lasts for a quarter of an hour."""
        self._adopt(self.http.post(f"{self.base}/auth/refresh"))

    def call(self, method, path, expect=None, **kwargs):
        response = self.http.request(method, f"{self.base}{path}", **kwargs)
        if expect is None:
            assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        else:
            assert response.status_code == expect, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    def get(self, path, **kwargs):
        return self.call("GET", path, **kwargs)

    def post(self, path, body=None, **kwargs):
        return self.call("POST", path, json=body if body is not None else {}, **kwargs)

    def conversation(self):
        return self.post("/conversations")["id"]

    def ask(self, content=LONG, conversation=None, key=None):
        """Asks over REST; gives the ids of what it began."""
        conversation = conversation or self.conversation()
        headers = {"Idempotency-Key": key} if key else {}
        path = f"/conversations/{conversation}/messages"
        return self.post(path, {"content": content}, headers=headers)

    def generation(self, generation_id):
        return self.get(f"/generations/{generation_id}")

    def messages(self, conversation):
        items, cursor = [], None
        while True:
            params = {"limit": 100, **({"cursor": cursor} if cursor else {})}
            page = self.get(f"/conversations/{conversation}/messages", params=params)
            items += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return items

    def cancel(self, generation_id):
        self.post(f"/generations/{generation_id}/cancel")

    def ended(self, generation_id, patience=PATIENCE):
        """The generation, once it has ended."""

        def look():
            generation = self.generation(generation_id)
            return generation if generation["status"] in ENDED else None

        return wait_for(look, "the end of the answer", patience)

    def socket(self):
        return Socket(self)


class Socket:
    """A signed-in WebSocket."""

    def __init__(self, account):
        self.account = account

    def __enter__(self):
        address = f"ws://{self.account.jarvis.public}/ws"
        self.connection = connect(address, max_size=None, open_timeout=PATIENCE, close_timeout=1)
        self.ws = self.connection.__enter__()
        self.tell(type="auth", access_token=self.account.token)
        self.expect("ready")
        return self

    def __exit__(self, *raised):
        self.connection.__exit__(*raised)

    def tell(self, **frame):
        self.ws.send(json.dumps(frame))

    def next(self, patience=PATIENCE):
        """The next frame; raises `websockets.ConnectionClosed` when there will be none."""
        return json.loads(self.ws.recv(timeout=patience))

    def expect(self, kind):
        while True:
            frame = self.next()
            if frame["type"] == kind:
                return frame
            if frame["type"] == "error":
                raise AssertionError(f"expected {kind}, got {frame}")

    def ask(self, content=LONG, conversation=None):
        """Asks, and gives what was accepted; its deltas follow on this socket."""
        key = str(uuid.uuid4())
        self.tell(type="send", id=key, conversation_id=conversation, content=content)
        accepted = self.expect("accepted")
        assert accepted["id"] == key
        return accepted

    def subscribe(self, seen):
        """Goes on where this reader was."""
        held = {"offset": len(seen.bytes), **({} if seen.epoch is None else {"epoch": seen.epoch})}
        self.tell(type="subscribe", generation_id=seen.generation_id, **held)

    def read(self, seen, until=None, patience=PATIENCE):
        """Reads on until the answer ends, or `until(seen)` holds."""
        end = time.monotonic() + patience
        while not seen.end:
            frame = self.next(patience)
            if frame["type"] == "error":
                raise Broken(f"an error in the middle of an answer: {frame}")
            seen.take(frame)
            if until and until(seen):
                break
            if time.monotonic() > end:
                raise AssertionError(f"the answer did not get there in {patience:.0f} s: {seen.text!r}")
        return seen

    def drain(self, seen):
        """Takes everything that still arrives until the connection is gone."""
        try:
            while True:
                seen.take(self.next())
        except (ConnectionClosed, EOFError, OSError):
            pass


def follow_events(account, seen, last=None):
    """The same answer over server-sent events, from `last` (an event's id) on, to its end."""
    headers = {"last-event-id": last} if last else {}
    url = f"{account.base}/generations/{seen.generation_id}/events"
    with account.http.stream("GET", url, headers=headers) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        record, ids = {}, []
        for line in response.iter_lines():
            if line:
                name, _, value = line.partition(":")
                record[name] = value.removeprefix(" ")
                continue
            if "data" in record:
                event = json.loads(record["data"])
                assert record["event"] == event["type"], record
                seen.take(event)
                if event["type"] == "delta":
                    assert record["id"] == f"{event['epoch']}-{len(seen.bytes)}", record
                    ids.append(record["id"])
            record = {}
            if seen.end:
                break
        return ids


def new_answer(accepted):
    return Seen(accepted["generation_id"])
