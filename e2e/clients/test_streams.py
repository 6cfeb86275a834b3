"""Streams as bytes: what stands on the wire, independent of any client."""

import json

import httpx

from support.target import Target

CHAT = {"messages": [{"role": "user", "content": "Say hello."}]}
SHORT = {"temperature": 0, "num_predict": 12}


def stream(server, path, body):
    """Status, headers and the pieces of the body as they came."""
    with httpx.stream("POST", f"{server.url}{path}", json=body, timeout=60) as response:
        return response, b"".join(response.iter_raw())


def test_ndjson_of_chat(target, models):
    response, body = stream(target, "/api/chat", {"model": models["chat"], "options": SHORT, **CHAT})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    assert body.endswith(b"\n") and b"\r" not in body
    records = [json.loads(line) for line in body.decode().splitlines()]
    for record in records[:-1]:
        assert list(record) == ["model", "created_at", "message", "done"], record
        assert list(record["message"])[:2] == ["role", "content"] and record["message"]["role"] == "assistant"
        assert record["message"]["content"] and record["done"] is False
    check_end(records[-1], "message")
    assert records[-1]["message"]["content"] == ""


def test_ndjson_of_generate(target, models):
    body = {"model": models["chat"], "prompt": "Once", "options": SHORT}
    response, body = stream(target, "/api/generate", body)
    assert response.headers["content-type"] == "application/x-ndjson"
    records = [json.loads(line) for line in body.decode().splitlines()]
    for record in records[:-1]:
        assert list(record) == ["model", "created_at", "response", "done"], record
    check_end(records[-1], "response")


def check_end(record, text):
    figures = ["total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"]
    assert {"model", "created_at", text, "done", "done_reason", *figures} <= set(record), record
    assert record["done"] is True and record["done_reason"] in ("stop", "length")
    assert all(type(record[figure]) is int and record[figure] >= 0 for figure in figures), record
    assert record["total_duration"] >= record["eval_duration"] > 0


def test_without_stream_it_is_one_object(target, models):
    body = {"model": models["chat"], "stream": False, "options": SHORT, **CHAT}
    response = httpx.post(f"{target.url}/api/chat", json=body, timeout=60)
    assert response.headers["content-type"].startswith("application/json")
    assert response.json()["done"] is True and response.json()["message"]["content"]


def frames(body):
    """The `data:` of every event; nothing else may stand in this dialect's streams."""
    text = body.decode()
    assert text.endswith("\n\n") and "\r" not in text
    events = text.removesuffix("\n\n").split("\n\n")
    assert all(event.startswith("data: ") and "\n" not in event for event in events), events
    return [event.removeprefix("data: ") for event in events]


def test_sse_of_chat_completions(target, models):
    body = {"model": models["chat"], "stream": True, "max_tokens": 12, "temperature": 0, **CHAT}
    response, body = stream(target, "/v1/chat/completions", body)
    assert response.headers["content-type"].startswith("text/event-stream")
    data = frames(body)
    assert data.count("[DONE]") == 1 and data[-1] == "[DONE]"
    chunks = [json.loads(each) for each in data[:-1]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    roles = [chunk for chunk in chunks if chunk["choices"][0]["delta"].get("role")]
    assert roles == chunks[: len(roles)] and roles, "the role is told before the text"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length")


def test_sse_of_completions(target, models):
    body = {"model": models["chat"], "prompt": "Once", "stream": True, "max_tokens": 8}
    response, body = stream(target, "/v1/completions", body)
    data = frames(body)
    assert data.count("[DONE]") == 1 and data[-1] == "[DONE]"
    assert {json.loads(each)["object"] for each in data[:-1]} == {"text_completion"}


def test_errors_have_the_shape_of_their_dialect(target):
    response = httpx.post(f"{target.url}/api/chat", json={"model": "nobody", **CHAT})
    assert response.status_code == 404 and list(response.json()) == ["error"]
    response = httpx.post(f"{target.url}/v1/chat/completions", json={"model": "nobody", **CHAT})
    assert response.status_code == 404
    assert {"message", "type", "code"} <= set(response.json()["error"])
    for path in ("/api/chat", "/v1/chat/completions"):
        response = httpx.post(f"{target.url}{path}", content=b"{broken")
        assert response.status_code == 400 and "error" in response.json()


def test_it_greets_as_its_dialect_does(target):
    assert httpx.get(f"{target.url}/").text == "Ollama is running"
    assert httpx.head(f"{target.url}/").status_code == 200
    assert set(httpx.get(f"{target.url}/api/version").json()) == {"version"}


def test_a_trailing_answer_is_continued_not_answered(target, models):
    """The seam of every later resumption: the text so far is taken verbatim and only new text comes."""
    messages = [{"role": "user", "content": "Count: one, two, three, four, five, six."}]
    body = {"model": models["chat"], "stream": False, "options": {"temperature": 0, "num_predict": 40}}
    whole = httpx.post(f"{target.url}/api/chat", json={**body, "messages": messages}, timeout=60).json()
    text = whole["message"]["content"]
    begun = text[: len(text) // 2]
    for more in (
        {"messages": [*messages, {"role": "assistant", "content": begun}]},
        {"messages": messages, "jarvis": {"continue": {"text": begun}}},
    ):
        rest = httpx.post(f"{target.url}/api/chat", json={**body, **more}, timeout=60).json()
        assert not rest["message"]["content"].startswith(begun[:10])
        assert rest["message"]["content"], rest


def test_exact_tokens_continue_exactly(shared_servers, target, models):
    exact = Target(shared_servers, target.kind, "--parallel", "1", "--no-prefix-reuse")
    messages = [{"role": "user", "content": "Write a story about a fox and a hen."}]
    body = {"model": models["chat"], "messages": messages, "options": {"temperature": 0, "num_predict": 60}}
    _, raw = stream(exact, "/api/chat", {**body, "jarvis": {"report_tokens": True}})
    records = [json.loads(line) for line in raw.decode().splitlines()]
    tokens = [token for record in records for token in record.get("jarvis", {}).get("tokens", [])]
    text = "".join(record["message"]["content"] for record in records)
    assert len(tokens) == records[-1]["eval_count"] == 60
    for cut in (1, 17, 59):
        seam = {"continue": {"text": "", "tokens": tokens[:cut]}}
        options = {"temperature": 0, "num_predict": 60 - cut}
        _, raw = stream(exact, "/api/chat", {**body, "options": options, "jarvis": seam})
        rest = "".join(json.loads(line)["message"]["content"] for line in raw.decode().splitlines())
        assert rest and text.endswith(rest), (cut, rest, text)
    exact.end()
