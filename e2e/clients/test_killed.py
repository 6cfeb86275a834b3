"""The official clients of PyPI read through a balancer while its engines are killed and started again: they do not notice."""

import ollama
import openai
import pytest

from support.api import LONG
from support.cluster import LIMIT, RESUMED, Cluster

MESSAGES = [{"role": "user", "content": LONG}]


def by_ollama(url, model):
    """The pieces of an answer, and its end with the last."""
    stream = ollama.Client(host=url).chat(
        model=model, messages=MESSAGES, stream=True, options={"temperature": 0, "num_predict": LIMIT}
    )
    for part in stream:
        yield part.message.content, part.done and (part.done_reason, part.prompt_eval_count, part.eval_count)


def by_openai(url, model):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)
    stream = client.chat.completions.create(
        model=model, messages=MESSAGES, stream=True, temperature=0, max_tokens=LIMIT, stream_options={"include_usage": True}
    )
    reason = None
    for chunk in stream:
        for choice in chunk.choices:
            reason = choice.finish_reason or reason
            yield choice.delta.content or "", None
        if chunk.usage:
            yield "", (reason, chunk.usage.prompt_tokens, chunk.usage.completion_tokens)


def read(pieces, act=None):
    """The text and its ends. Once more than 100 characters are there, `act` is called."""
    text, ends = "", []
    for piece, end in pieces:
        text += piece
        ends += [end] if end else []
        if act and len(text) > 100:
            act = act()
    assert act is None, "the answer was over before anything could happen to it"
    return text, ends


@pytest.mark.parametrize("ask", [by_ollama, by_openai])
def test_a_client_does_not_notice_that_engines_are_killed(servers, ask):
    cluster = Cluster(servers, JARVIS_BALANCER_PROBE_SECONDS="1")
    whole = read(ask(cluster.engines[0].url, cluster.model))
    assert [(reason, tokens) for reason, _, tokens in whole[1]] == [("length", LIMIT)]
    for _ in range(2):
        cluster.wait_up("both engines")
        killed = []

        def kill():
            killed.extend(cluster.working())
            killed[0].kill()

        assert read(ask(cluster.url, cluster.model), kill) == whole
        killed[0].start()
    assert cluster.count(RESUMED) == 2
