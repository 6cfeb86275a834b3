"""A streamed answer of a model server, in any of its dialects, as its reader puts it together."""

import json
from dataclasses import dataclass, field

import httpx

from support.answers import Broken
from support.jarvis import PATIENCE


@dataclass
class Dialect:
    """One endpoint: how a question is put to it so that its answer has `limit` tokens at most and is the same every time."""

    path: str
    openai: bool = False
    chat: bool = True

    def body(self, model, question, limit):
        ask = {"messages": [{"role": "user", "content": question}]} if self.chat else {"prompt": question}
        if self.openai:
            return {"model": model, "temperature": 0, "max_tokens": limit, "stream": True, "stream_options": {"include_usage": True}, **ask}
        return {"model": model, "options": {"temperature": 0, "num_predict": limit}, **ask}


CHAT = Dialect("/api/chat")
GENERATE = Dialect("/api/generate", chat=False)
COMPLETIONS = Dialect("/v1/chat/completions", openai=True)


@dataclass
class Streamed:
    """What one reader was given."""

    node: str = ""
    reason: str = ""
    text: str = ""
    # Told by engines to who asks for them.
    tokens: list = field(default_factory=list)
    ends: list = field(default_factory=list)
    usage: tuple | None = None
    ids: set = field(default_factory=set)
    roles: int = 0
    closed: int = 0

    def take(self, line):
        if not line:
            return
        if self.closed:
            raise Broken(f"something after the end: {line}")
        data = line.removeprefix("data: ")
        if data == "[DONE]":
            self.closed += 1
            return
        record = json.loads(data)
        if "error" in record:
            raise Broken(f"an error in the middle of an answer: {line}")
        self.tokens += record.get("jarvis", {}).get("tokens", [])
        if "object" in record:
            self._chunk(record)
        else:
            self._record(record)

    def _record(self, record):
        self.text += record["message"]["content"] if "message" in record else record["response"]
        if record["done"]:
            self.ends.append(record["done_reason"])
            self.closed += 1
            self.usage = (record["prompt_eval_count"], record["eval_count"])

    def _chunk(self, record):
        self.ids.add((record["id"], record["created"]))
        for choice in record["choices"]:
            self.roles += "role" in choice["delta"]
            self.text += choice["delta"].get("content") or ""
            if choice["finish_reason"]:
                self.ends.append(choice["finish_reason"])
        if record.get("usage"):
            self.usage = (record["usage"]["prompt_tokens"], record["usage"]["completion_tokens"])

    def check_same(self, whole):
        """To this reader nothing happened: the text, the one end and the counts are those of an undisturbed answer."""
        assert self.text == whole.text
        assert self.ends == whole.ends and self.usage == whole.usage
        self.check_one(whole)

    def check_one(self, whole):
        """It is one answer: one identifier, one beginning, one end."""
        assert len(self.ends) == 1 and self.closed == 1
        assert len(self.ids) == len(whole.ids) and self.roles == whole.roles


def read(url, dialect, body, watch=None):
    """Reads one answer to its end; `watch` is shown it after every record."""
    answer = Streamed()
    with httpx.stream("POST", f"{url}{dialect.path}", json=body, timeout=PATIENCE) as response:
        assert response.status_code == 200, response.read()
        answer.node = response.headers.get("x-jarvis-node", "")
        answer.reason = response.headers.get("x-jarvis-reason", "")
        for line in response.iter_lines():
            answer.take(line)
            if watch:
                watch(answer)
    return answer


def once(when, act):
    """A `watch` that acts the first time that `when` holds."""
    acted = []

    def watch(answer):
        if not acted and when(answer):
            acted.append(True)
            act(answer)

    return watch
