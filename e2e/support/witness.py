"""What went over the wire between a balancer and its engines: the measure of an answer that several engines made."""

import json
import signal
import socket
import threading
from contextlib import suppress

from support.answers import Broken
from support.stream import Streamed


class Witness:
    """Stands before an engine, passes on every byte both ways and keeps it among the `exchanges`."""

    def __init__(self, engine, exchanges):
        self.engine = engine
        self.exchanges = exchanges
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.public = "%s:%d" % self.listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"http://{self.public}"

    def kill(self):
        self.engine.signal(signal.SIGKILL)

    def restart(self):
        self.engine.wait()
        self.engine.start()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with self.listener, suppress(OSError):
            while True:
                threading.Thread(target=self._pass_on, args=(self.listener.accept()[0],), daemon=True).start()

    def _pass_on(self, client):
        # To who connects while there is no engine, the connection breaks.
        with client, suppress(OSError), socket.create_connection(_address(self.engine.public)) as engine:
            line = Line(self.exchanges)
            back = threading.Thread(target=_pump, args=(engine, client, line.told), daemon=True)
            back.start()
            _pump(client, engine, line.asked)
            back.join()


def _address(public):
    host, port = public.split(":")
    return host, int(port)


def _pump(source, target, keep):
    """Until one of them is gone; then so is the other."""
    with suppress(OSError):
        while data := source.recv(65_536):
            keep(data)
            target.sendall(data)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


class Line:
    """One connection. A balancer asks nothing more before it has the whole answer: what is asked after something was told
    is the next request."""

    def __init__(self, exchanges):
        self.exchanges = exchanges
        self.current = None

    def asked(self, data):
        if self.current is None or self.current.told:
            self.current = Exchange()
            self.exchanges.append(self.current)
        self.current.asked += data

    def told(self, data):
        self.current.told += data


class Exchange:
    """One request, and all that was told in answer to it."""

    def __init__(self):
        self.asked = bytearray()
        self.told = bytearray()

    @property
    def request(self):
        return json.loads(self.asked.partition(b"\r\n\r\n")[2] or b"{}")

    @property
    def question(self):
        request = self.request
        return request["messages"][0]["content"] if "messages" in request else request.get("prompt")

    @property
    def limit(self):
        """Most tokens of the answer."""
        request = self.request
        return request["max_tokens"] if "max_tokens" in request else request["options"]["num_predict"]

    @property
    def begun(self):
        """What an engine is asked to go on from."""
        return self.request.get("jarvis", {}).get("continue")

    def answer(self):
        """What was told in whole records."""
        answer = Streamed()
        *records, _half = _unchunked(self.told.partition(b"\r\n\r\n")[2]).split(b"\n")
        for record in records:
            answer.take(record.decode())
        return answer


def _unchunked(data):
    """The body of a response in chunks, as far as it goes."""
    body = bytearray()
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size or b"0", 16)
        body += data[:length]
        data = data[length + 2 :]
    return body


def check_spliced(answer, parts):
    """`answer` is what its reader put together, `parts` are the exchanges that made it. Each engine was asked to go on from
    exactly what those before had told, with as many tokens as were left; all that was told was shown, once; and it is one
    answer, begun as the first engine said and ended as the last, with the counts of all."""
    text, tokens, before, limit = "", [], 0, parts[0].limit
    opening = told = None
    for part in parts:
        if told and told.closed:
            raise Broken("an engine was asked to go on with an answer that had ended")
        begun = {"text": text, "tokens": tokens} if text else None
        if part.begun != begun:
            raise Broken(f"asked to go on from {part.begun}, not from {begun}")
        if part.limit != limit - len(tokens):
            raise Broken(f"asked for {part.limit} tokens after {len(tokens)} of {limit}")
        told = part.answer()
        text, tokens, before = text + told.text, tokens + told.tokens, len(tokens)
        opening = opening or (told if text else None)
    if answer.text != text:
        raise Broken(f"shown: {answer.text!r}, told: {text!r}")
    if answer.tokens:
        raise Broken(f"tokens were shown that nobody asked for: {answer.tokens}")
    if (answer.ids, answer.roles) != (opening.ids, opening.roles):
        raise Broken(f"begun as {answer.ids} with {answer.roles} roles, not as {opening.ids} with {opening.roles}")
    if (answer.ends, answer.closed) != (told.ends, 1):
        raise Broken(f"ended {answer.closed} times, with {answer.ends}, not once with {told.ends}")
    if answer.usage != (told.usage[0] - before, len(tokens)):
        raise Broken(f"counted {answer.usage}, told {told.usage} after {before} tokens")
    if len(tokens) > limit or (told.ends == ["length"] and len(tokens) < limit):
        raise Broken(f"{len(tokens)} tokens where {limit} were allowed")
