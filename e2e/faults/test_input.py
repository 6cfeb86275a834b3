"""Whatever is sent: a clear error in the interface's own form, and the process lives."""

import base64
import hmac
import json
import os
import time
import uuid
import zlib
from pathlib import Path

import httpx
import pytest
from websockets import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from support.api import Account
from support.jarvis import PATIENCE

DEEP = b"[" * 10_000 + b"]" * 10_000
DEEP_OBJECT = b'{"a":' * 10_000 + b"1" + b"}" * 10_000


def problem(response, status, code=None):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json", response.headers
    body = response.json()
    assert body["status"] == status and body["title"] and body["detail"], body
    if code:
        assert body["code"] == code, body
    return body


@pytest.fixture(autouse=True)
def lives(serve):
    yield
    assert httpx.get(f"{serve.url}/health").json() == {"status": "ok"}
    assert "panicked" not in serve.stderr()


ROUTES = ["/auth/register", "/auth/login", "/conversations", "/conversations/{id}/messages", "/conversations/{id}/regenerate"]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("body", [DEEP, DEEP_OBJECT, b"{broken", b"[]", b'"text"', b"\xff\xfe", b""], ids=["deep", "deeper", "broken", "list", "text", "bytes", "empty"])
def test_a_senseless_body(account, route, body):
    path = route.format(id=account.conversation())
    response = account.http.post(f"{account.base}{path}", content=body, headers={"content-type": "application/json"})
    if body == b"" and route == "/conversations":
        assert response.status_code in (201, 400, 415, 422)
        return
    assert response.status_code in (400, 422), response.text
    problem(response, response.status_code, "invalid_body")


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/embed", "/api/show", "/api/create", "/v1/chat/completions", "/v1/embeddings"])
def test_deep_json_at_the_engine(engine, path):
    for body in (DEEP, DEEP_OBJECT):
        response = httpx.post(f"{engine.url}{path}", content=body)
        assert response.status_code == 400 and "error" in response.json(), response.text
    assert httpx.get(f"{engine.url}/api/version").status_code == 200


def resident(server):
    """Its memory, in bytes."""
    pages = Path(f"/proc/{server.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_what_is_packed_is_not_unpacked(serve, engine, account, models):
    """Half a megabyte that would be half a gigabyte of good JSON."""
    good = {"model": models["chat"], "prompt": "x", "messages": [{"role": "user", "content": "x"}], "title": "x"}
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b" " * (1 << 20)) for _ in range(512)) + packer.compress(json.dumps(good).encode()) + packer.flush()
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    before = resident(serve) + resident(engine)
    for path in ("/api/chat", "/api/generate", "/v1/chat/completions", "/v1/embeddings"):
        response = httpx.post(f"{engine.url}{path}", content=bomb, headers=headers)
        assert response.status_code in (400, 413) and "error" in response.json(), response.text
    for path in ("/auth/login", "/conversations"):
        response = account.http.post(f"{account.base}{path}", content=bomb, headers=headers)
        problem(response, response.status_code)
        assert response.status_code in (400, 413), response.text
    assert resident(serve) + resident(engine) < before + (64 << 20)


def test_a_deep_schema_at_the_engine(engine, models):
    schema = {"type": "string"}
    for _ in range(60):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    body = {"model": models["chat"], "messages": [{"role": "user", "content": "x"}], "format": schema, "stream": False, "options": {"num_predict": 4}}
    response = httpx.post(f"{engine.url}/api/chat", json=body, timeout=60)
    assert response.status_code in (200, 400), response.text
    assert httpx.get(f"{engine.url}/api/version").status_code == 200


def test_messages_that_are_empty_or_too_long(account):
    path = f"{account.base}/conversations/{account.conversation()}/messages"
    for text in ("", "  \n\t "):
        problem(account.http.post(path, json={"content": text}), 422, "message_empty")
    problem(account.http.post(path, json={"content": "x" * (64 * 1024 + 1)}), 422, "message_too_long")
    problem(account.http.post(path, json={"content": "x" * (2 << 20)}), 413, "payload_too_large")


def test_an_unknown_model_names_those_there_are(account):
    path = f"{account.base}/conversations/{account.conversation()}/messages"
    body = problem(account.http.post(path, json={"content": "x", "model": "nobody"}), 422, "unknown_model")
    known = [model["name"] for model in account.get("/models")["items"] if "completion" in model["capabilities"]]
    assert known and set(known) <= set(body["models"])


def test_missing_and_mistyped_fields(account):
    for path, body in [
        ("/auth/register", {}),
        ("/auth/register", {"email": 1, "password": "x" * 12}),
        ("/auth/register", {"email": "no address", "password": "x" * 12}),
        ("/auth/login", {"email": "a@example.org"}),
        ("/conversations", {"title": 7}),
        (f"/conversations/{account.conversation()}/messages", {"content": ["x"]}),
        (f"/conversations/{account.conversation()}/messages", {"content": "x", "parent_id": 7}),
        (f"/conversations/{account.conversation()}/regenerate", {}),
    ]:
        response = account.http.post(f"{account.base}{path}", json=body)
        assert response.status_code in (400, 422), (path, body, response.text)
        problem(response, response.status_code)


def test_forged_and_foreign_tokens(serve, account):
    header, claims, signature = account.token.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    flipped = signature[:-2] + ("A" if signature[-2] != "A" else "B") + signature[-1]
    forged = (f"{none}.{claims}.", f"{none}.{claims}.{signature}", f"{header}.{claims}.{flipped}", "x.y.z", "a" * 5_000)
    for token in forged:
        response = httpx.get(f"{account.base}/me", headers={"authorization": f"Bearer {token}"})
        problem(response, 401)
    problem(httpx.get(f"{account.base}/me"), 401)


SECRET = "0123456789abcdef0123456789abcdef"


def signed(token, **claims):
    """The same token with other claims, signed with the installation's own secret."""
    header, payload, _ = token.split(".")
    decoded = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    payload = encoded(json.dumps(decoded | claims).encode())
    return f"{header}.{payload}.{encoded(hmac.digest(SECRET.encode(), f'{header}.{payload}'.encode(), 'sha256'))}"


def encoded(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def test_an_expired_token(servers):
    server = servers.start(models=False, JARVIS_SECRET_KEY=SECRET)
    account = Account(server)
    now = int(time.time())
    for claims, status, code in [
        ({"exp": now + 600}, 200, None),
        ({"exp": now - 600}, 401, "token_expired"),
        ({"exp": None}, 401, None),
        ({"sub": str(uuid.uuid4())}, 401, None),
    ]:
        token = signed(account.token, **claims)
        response = httpx.get(f"{account.base}/me", headers={"authorization": f"Bearer {token}"})
        assert response.status_code == status, (claims, response.text)
        if status != 200:
            problem(response, status, code)


def test_what_is_another_users_does_not_exist(serve, account):
    accepted = account.ask("Say hello.")
    account.ended(accepted["generation_id"])
    stranger = Account(serve, "eve@example.org")
    for method, path in [
        ("GET", "/conversations/{c}"),
        ("PATCH", "/conversations/{c}"),
        ("GET", "/conversations/{c}/messages"),
        ("POST", "/conversations/{c}/messages"),
        ("POST", "/conversations/{c}/regenerate"),
        ("GET", "/generations/{g}"),
        ("GET", "/generations/{g}/events"),
        ("POST", "/generations/{g}/cancel"),
        ("DELETE", "/conversations/{c}"),
    ]:
        body = {"PATCH": {"title": "mine"}, "POST": {"content": "x", "parent_id": accepted["message_id"]}}.get(method)
        answers = []
        for conversation, generation in [
            (accepted["conversation_id"], accepted["generation_id"]),
            (str(uuid.uuid4()), str(uuid.uuid4())),
        ]:
            url = f"{stranger.base}{path.format(c=conversation, g=generation)}"
            response = stranger.http.request(method, url, json=body)
            problem(response, 404, "not_found")
            answers.append(response.json())
        assert answers[0] == answers[1], path
    with stranger.socket() as socket:
        said = []
        for generation in (accepted["generation_id"], str(uuid.uuid4())):
            socket.tell(type="subscribe", generation_id=generation, offset=0)
            frame = socket.next()
            assert frame["type"] == "error" and frame["code"] == "not_found", frame
            said.append({name: value for name, value in frame.items() if name not in ("generation_id", "id")})
        assert said[0] == said[1]
    assert len(account.messages(accepted["conversation_id"])) == 2


def closed(serve, *frames):
    """Sends these frames; gives the code the server closes with."""
    with connect(f"ws://{serve.public}/ws", max_size=None) as ws:
        try:
            for frame in frames:
                ws.send(frame)
            while True:
                ws.recv(timeout=PATIENCE)
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd else None


def test_frames_that_are_no_frames(serve, account):
    auth = json.dumps({"type": "auth", "access_token": account.token})
    assert closed(serve, json.dumps({"type": "auth", "access_token": "forged"})) == 4401
    assert closed(serve, json.dumps({"type": "subscribe", "generation_id": str(uuid.uuid4()), "offset": 0})) == 4401
    assert closed(serve, auth, "x" * (3 << 20)) == 1009
    with connect(f"ws://{serve.public}/ws", max_size=None) as ws:
        ws.send(auth)
        assert json.loads(ws.recv(timeout=PATIENCE))["type"] == "ready"
        for frame in ("{broken", "[]", "{}", '{"type":"nonsense"}', DEEP.decode(), json.dumps({"type": "send", "content": 1})):
            ws.send(frame)
            answer = json.loads(ws.recv(timeout=PATIENCE))
            assert answer["type"] == "error" and answer["code"] and answer["message"], (frame[:40], answer)


def test_a_socket_from_another_origin_is_refused(serve):
    with pytest.raises(InvalidStatus) as caught:
        with connect(f"ws://{serve.public}/ws", origin="https://evil.example"):
            pass
    assert caught.value.response.status_code == 403
    with connect(f"ws://{serve.public}/ws", origin=serve.url):
        pass


def test_a_conversation_longer_than_the_context_still_gets_answers(servers):
    server = servers.start(JARVIS_ENGINE_CONTEXT="512")
    account = Account(server)
    conversation = account.conversation()
    for turn in range(4):
        # Each question is about half of the window.
        accepted = account.ask(f"Turn {turn}. " + "The sea is wide and the ship is small. " * 25 + "Say yes.", conversation)
        generation = account.ended(accepted["generation_id"])
        assert generation["status"] == "done" and generation["text"], generation
    assert len(account.messages(conversation)) == 8


def test_control_characters_in_names_are_refused(engine, account):
    for name in ("a\r\nb", "a\0b", "../../etc/passwd", "x" * 5_000):
        response = httpx.post(f"{engine.url}/api/show", json={"model": name})
        assert response.status_code in (400, 404) and "error" in response.json(), name
        path = f"{account.base}/conversations/{account.conversation()}/messages"
        response = account.http.post(path, json={"content": "x", "model": name})
        assert response.status_code == 422, response.text
