"""The official `ollama` package of Python against `jarvis engine` and `jarvis balancer`."""

import json
import math

import ollama
import pytest

from support.jarvis import MODELS, wait_for
from support.target import Target

HELLO = [{"role": "user", "content": "Say hello."}]
SHORT = {"temperature": 0, "num_predict": 24}


@pytest.fixture(scope="module")
def client(target):
    return ollama.Client(host=target.url, headers=target.headers)


def test_chat(client, models):
    answer = client.chat(model=models["chat"], messages=HELLO, options=SHORT)
    assert answer.model == models["chat"]
    assert answer.message.role == "assistant"
    assert answer.message.content.strip()
    assert answer.done and answer.done_reason in ("stop", "length")
    assert 0 < answer.eval_count <= 24
    assert answer.prompt_eval_count > 0
    assert answer.total_duration >= answer.eval_duration > 0


def test_streamed_chat_is_the_same_answer_in_pieces(client, models):
    parts = list(client.chat(model=models["chat"], messages=HELLO, options=SHORT, stream=True))
    assert len(parts) > 2
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    text = "".join(part.message.content for part in parts)
    assert text.strip()
    assert parts[-1].eval_count > 0 and parts[-1].done_reason in ("stop", "length")


def test_num_predict_bounds_the_answer(client, models):
    answer = client.chat(model=models["chat"], messages=[{"role": "user", "content": "Tell a long story."}],
                         options={"num_predict": 5, "temperature": 0})
    assert answer.eval_count == 5
    assert answer.done_reason == "length"


def test_a_stop_word_ends_the_answer_and_is_not_shown(client, models):
    answer = client.generate(model=models["chat"], prompt="one two three four", raw=True,
                             options={"num_predict": 40, "temperature": 0, "stop": [" "]})
    assert " " not in answer.response
    assert answer.done_reason == "stop"


def test_generate(client, models):
    answer = client.generate(model=models["chat"], prompt="The capital of France is", options=SHORT)
    assert answer.response.strip() and answer.done


def test_streamed_generate(client, models):
    parts = list(client.generate(model=models["chat"], prompt="Count to ten.", options=SHORT, stream=True))
    assert "".join(part.response for part in parts).strip()
    assert parts[-1].done and not any(part.done for part in parts[:-1])


def test_the_same_seed_gives_the_same_answer(shared_servers, target, models):
    exact = Target(shared_servers, target.kind, "--parallel", "1", "--no-prefix-reuse")
    client = ollama.Client(host=exact.url)

    def answer(seed):
        options = {"seed": seed, "temperature": 1.2, "num_predict": 32}
        return client.chat(model=models["chat"], messages=HELLO, options=options).message.content

    assert answer(7) == answer(7)
    assert len({answer(seed) for seed in (1, 2, 3)}) > 1
    exact.end()


def test_json_schema(client, models):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 150}},
        "required": ["name", "age"],
    }
    question = [{"role": "user", "content": "Bob is 41 years old. Give his name and age as JSON."}]
    answer = client.chat(model=models["chat"], messages=question, format=schema,
                         options={"temperature": 0, "num_predict": 200})
    value = json.loads(answer.message.content)
    assert set(value) == {"name", "age"}
    assert isinstance(value["name"], str) and type(value["age"]) is int


def test_json_mode(client, models):
    question = [{"role": "user", "content": "Give a JSON object with the key 'colour'."}]
    answer = client.chat(model=models["chat"], messages=question, format="json",
                         options={"temperature": 0, "num_predict": 300})
    if answer.done_reason == "stop":
        json.loads(answer.message.content)
    else:
        assert answer.message.content.lstrip().startswith(("{", "["))


def test_embed_one_and_many(client, models):
    one = client.embed(model=models["embed"], input="a cat on a mat")
    assert len(one.embeddings) == 1 and len(one.embeddings[0]) == 384
    many = client.embed(model=models["embed"], input=["a cat on a mat", "a kitten on a rug", "quarterly tax return"])
    near, far = (cosine(many.embeddings[0], other) for other in many.embeddings[1:])
    assert near > far + 0.2
    assert cosine(one.embeddings[0], many.embeddings[0]) > 0.999
    for vector in many.embeddings:
        assert math.isclose(math.hypot(*vector), 1, abs_tol=1e-3)


def test_the_older_embeddings_call(client, models):
    assert len(client.embeddings(model=models["embed"], prompt="a cat").embedding) == 384


def test_list_show_ps(client, models):
    listed = client.list().models
    assert {models["chat"], models["embed"]} <= {model.model for model in listed}
    for model in listed:
        assert model.size > 1 << 20 and len(model.digest) == 64 and model.modified_at
    shown = client.show(models["chat"])
    assert "completion" in shown.capabilities and shown.template
    assert shown.modelinfo["general.architecture"] == "llama"
    client.chat(model=models["chat"], messages=HELLO, options=SHORT)
    running = [model for model in client.ps().models if model.model == models["chat"]]
    assert running[0].size > 0 and running[0].expires_at


# A balancer gives the request to one node, and leaves the others what they hold.
@pytest.mark.parametrize("target", ["engine"], indirect=True)
def test_keep_alive_zero_unloads(client, models):
    client.chat(model=models["chat"], messages=HELLO, options=SHORT)
    client.generate(model=models["chat"], keep_alive=0)
    # It leaves memory after the answer, as with Ollama.
    wait_for(lambda: models["chat"] not in {model.model for model in client.ps().models}, "an empty memory")


def test_copy_create_delete(client, models):
    client.copy(models["chat"], "second:one")
    assert "second:one" in {model.model for model in client.list().models}
    made = client.create(model="pirate", from_=models["chat"], system="You are a pirate.", parameters={"temperature": 0.1})
    assert made.status == "success"
    assert 'SYSTEM """You are a pirate."""' in client.show("pirate").modelfile
    assert client.chat(model="pirate", messages=HELLO, options=SHORT).message.content.strip()
    for name in ("second:one", "pirate"):
        assert client.delete(name).status == "success"
    left = {model.model for model in client.list().models}
    assert models["chat"] in left and not {"second:one", "pirate:latest"} & left
    # The weights were shared: they are still there.
    assert client.chat(model=models["chat"], messages=HELLO, options=SHORT).message.content.strip()


def test_create_from_an_uploaded_file(client, models):
    weights = max((path for path in MODELS.rglob("*") if path.is_file() and gguf(path)), key=lambda path: path.stat().st_size)
    digest = client.create_blob(weights)
    steps = [part.status for part in client.create(model="uploaded", files={"model.gguf": digest}, stream=True)]
    assert steps[-1] == "success"
    assert client.chat(model="uploaded", messages=HELLO, options=SHORT).message.content.strip()
    client.delete("uploaded")


def test_an_unknown_model_is_the_clients_own_error(client, target, models):
    for call in (
        lambda: client.chat(model="nobody", messages=HELLO),
        lambda: client.generate(model="nobody", prompt="x"),
        lambda: client.embed(model="nobody", input="x"),
        lambda: client.show("nobody"),
        lambda: client.delete("nobody"),
        lambda: client.copy("nobody", "other"),
    ):
        with pytest.raises(ollama.ResponseError) as caught:
            call()
        assert caught.value.status_code == 404
        assert "nobody" in caught.value.error
    with pytest.raises(ollama.ResponseError) as caught:
        list(client.chat(model="nobody", messages=HELLO, stream=True))
    assert caught.value.status_code == 404
    if target.kind == "engine":
        assert models["chat"] in caught.value.error, "it says which there are"


def test_a_model_that_cannot_do_it_says_so(client, models):
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat(model=models["embed"], messages=HELLO)
    assert caught.value.status_code == 400
    assert "does not support" in caught.value.error


def gguf(path):
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / (math.hypot(*a) * math.hypot(*b))
