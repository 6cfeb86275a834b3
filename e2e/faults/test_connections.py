"""Very many connections at once: all are served, and whoever has one already notices nothing."""

import asyncio
import base64
import json
import os
import resource
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from support.api import PASSWORD, Account
from support.jarvis import PATIENCE

# At once, as after the restart of a server; JARVIS_TEST_RECONNECTS changes it.
PAGES = int(os.environ.get("JARVIS_TEST_RECONNECTS", "2000"))


@pytest.fixture
def files():
    """As many open files for this process as it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    assert hard > PAGES + 100, "the limit of open files is too low: raise `ulimit -Hn`"
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def text_frame(text):
    """As a client sends it, with a mask of zeroes."""
    return b"\x81\xfe" + len(text).to_bytes(2) + bytes(4) + text


async def page(server, token):
    """Comes back and signs in; the connection."""
    host, port = server.public.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    key = base64.b64encode(os.urandom(16)).decode()
    head = f"GET /ws HTTP/1.1\r\nHost: {server.public}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    writer.write(head.encode() + text_frame(json.dumps({"type": "auth", "access_token": token}).encode()))
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101"), answer
    head = await reader.readexactly(2)
    length = head[1] if head[1] < 126 else int.from_bytes(await reader.readexactly(2))
    assert json.loads(await reader.readexactly(length))["type"] == "ready"
    return writer


async def logins(account, stop):
    """Signs in again and again until `stop`; how long each took."""
    took = []
    async with httpx.AsyncClient(timeout=PATIENCE) as http:
        while not stop.is_set() or not took:
            begun = time.monotonic()
            response = await http.post(f"{account.base}/auth/login", json={"email": account.email, "password": PASSWORD})
            # So often nobody may; that is an answer too.
            assert response.status_code in (200, 429), response.text
            took.append(time.monotonic() - begun)
            await asyncio.sleep(0.05)
    return took


def test_everybody_comes_back_at_once(servers, files):
    # Where nobody has said more, a program may open a thousand files unless it asks for more itself.
    usual = ("prlimit", "--nofile=1024:")
    server = servers.start("serve", "--no-engine", "--node", "http://127.0.0.1:9", models=False, prefix=usual)
    account = Account(server)

    async def everybody():
        stop = asyncio.Event()
        signing_in = asyncio.create_task(logins(account, stop))
        begun = time.monotonic()
        pages = await asyncio.wait_for(asyncio.gather(*(page(server, account.token) for _ in range(PAGES))), PATIENCE)
        took = time.monotonic() - begun
        stop.set()
        longest = max(await signing_in)
        for writer in pages:
            writer.close()
        return took, longest

    took, longest = asyncio.run(everybody())
    print(f"{PAGES} pages were back within {took:.1f} s, the longest sign-in took {longest:.2f} s")
    assert server.stop() == 0


def test_connections_take_no_files_from_the_store(servers, files):
    few = ("prlimit", "--nofile=1024:1024")
    server = servers.start("serve", "--no-engine", "--node", "http://127.0.0.1:9", models=False, prefix=few)
    account = Account(server)
    conversation = account.conversation()
    # Each keeps its connection; what the store opens for so many at once comes later.
    kept = [httpx.Client(timeout=PATIENCE, headers=account.http.headers) for _ in range(16)]

    def read(client):
        client.get(f"{account.base}/conversations/{conversation}/messages").raise_for_status()

    for client in kept:
        read(client)
    host, port = server.public.split(":")
    flood = [socket.create_connection((host, int(port))) for _ in range(1_500)]
    try:
        with ThreadPoolExecutor(len(kept)) as readers:
            for _ in range(20):
                list(readers.map(read, kept))
        assert httpx.get(f"{server.admin_url}/health/ready", timeout=PATIENCE).json()["components"][0] == {"name": "store", "status": "ok"}
    finally:
        for one in flood:
            one.close()
    # Whoever comes then finds room.
    account.at(server).conversation()
    assert server.stop() == 0
