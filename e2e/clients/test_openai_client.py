"""The official `openai` package of Python against `jarvis engine` and `jarvis balancer`."""

import json
import math

import openai
import pytest

HELLO = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(scope="module")
def client(target):
    return openai.OpenAI(base_url=f"{target.url}/v1", api_key="unused", max_retries=0)


def test_chat(client, models):
    answer = client.chat.completions.create(model=models["chat"], messages=HELLO, max_tokens=24, temperature=0)
    assert answer.object == "chat.completion" and answer.id and answer.created > 1_700_000_000
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.message.content.strip()
    assert choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens <= 24


def test_streamed_chat_with_usage(client, models):
    chunks = list(client.chat.completions.create(model=models["chat"], messages=HELLO, max_tokens=24, temperature=0,
                                                 stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1 and len({chunk.created for chunk in chunks}) == 1
    deltas = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert deltas[0].delta.role == "assistant"
    assert "".join(delta.delta.content or "" for delta in deltas).strip()
    assert [delta.finish_reason for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
    assert deltas[-1].finish_reason in ("stop", "length")
    assert not chunks[-1].choices and chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_a_stream_without_usage_has_none(client, models):
    chunks = list(client.chat.completions.create(model=models["chat"], messages=HELLO, max_tokens=4, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


def test_max_tokens_is_length(client, models):
    answer = client.chat.completions.create(model=models["chat"], temperature=0, max_completion_tokens=3,
                                            messages=[{"role": "user", "content": "Tell a long story."}])
    assert answer.usage.completion_tokens == 3
    assert answer.choices[0].finish_reason == "length"


def test_json_schema(client, models):
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "rainy": {"type": "boolean"}},
        "required": ["city", "rainy"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=models["chat"], temperature=0, max_tokens=200,
        messages=[{"role": "user", "content": "It rains in London. Give the city and whether it is rainy."}],
        response_format={"type": "json_schema", "json_schema": {"name": "weather", "schema": schema, "strict": True}},
    )
    value = json.loads(answer.choices[0].message.content)
    assert set(value) == {"city", "rainy"} and isinstance(value["rainy"], bool)


def test_completions(client, models):
    answer = client.completions.create(model=models["chat"], prompt="Once upon a time", max_tokens=12, temperature=0)
    assert answer.object == "text_completion" and answer.choices[0].text.strip()
    parts = list(client.completions.create(model=models["chat"], prompt="Once upon a time", max_tokens=12, temperature=0, stream=True))
    assert "".join(part.choices[0].text for part in parts if part.choices).strip()


def test_embeddings(client, models):
    """The client asks for base64 and decodes it; asked for numbers it must get the same."""
    packed = client.embeddings.create(model=models["embed"], input=["a cat", "a dog"])
    plain = client.embeddings.create(model=models["embed"], input=["a cat", "a dog"], encoding_format="float")
    assert [item.index for item in packed.data] == [0, 1]
    for one, other in zip(packed.data, plain.data):
        assert len(one.embedding) == 384
        assert math.isclose(math.hypot(*one.embedding), 1, abs_tol=1e-3)
        assert all(math.isclose(a, b, abs_tol=1e-5) for a, b in zip(one.embedding, other.embedding))
    assert packed.usage.prompt_tokens > 0


def test_models(client, models):
    listed = [model.id for model in client.models.list()]
    assert {models["chat"], models["embed"]} <= set(listed)
    assert client.models.retrieve(models["chat"]).id == models["chat"]


def test_an_unknown_model_is_the_clients_own_error(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nobody", messages=HELLO)
    assert "nobody" in caught.value.message
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody", messages=HELLO, stream=True)
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="nobody", input="x")


def test_a_senseless_request_is_the_clients_own_error(client, models):
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=models["chat"], messages=HELLO, temperature="hot")
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=models["chat"], messages=[])
