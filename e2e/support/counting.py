"""A model server that counts: one wrong character at any seam shows. It speaks what Jarvis' own engine speaks."""

import itertools
import json
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from support.answers import wide

MODEL = "counter:latest"


class CountingNode:
    """Counts to `last` in pieces of a few bytes, cut anywhere; goes on from any text. `cuts` says after how many
    characters (of each request's answer, in the order of requests) it drops the connection."""

    def __init__(self, last=3_000, pause=0.001, cuts=()):
        self.last = last
        self.pause = pause
        self.cuts = itertools.chain(cuts, itertools.repeat(None))
        self.text = "".join(f"{wide(number)} " for number in range(1, last + 1))
        self.requests = []
        self.random = random.Random(7)
        handler = type("Handler", (Handler,), {"node": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return "http://127.0.0.1:%d" % self.server.server_address[1]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    node = None

    def log_message(self, *_):
        pass

    def do_GET(self):
        model = {"name": MODEL, "model": MODEL, "digest": "0" * 64, "capabilities": ["completion"], "jarvis": {}}
        lists = {"/api/tags": {"models": [model]}, "/api/ps": {"models": [{"name": MODEL}]}, "/api/version": {"version": "0"}}
        self.answer(lists.get(self.path))

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.node.requests.append(request)
        begun = (request.get("jarvis") or {}).get("continue", {}).get("text", "")
        if self.path != "/api/chat" or not self.node.text.startswith(begun):
            return self.answer(None)
        self.send_response(200)
        self.send_header("content-type", "application/x-ndjson")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            self.count(self.node.text[len(begun):], next(self.node.cuts))
        except OSError:
            self.close_connection = True

    def answer(self, body):
        data = json.dumps(body if body is not None else {"error": "no such thing"}).encode()
        self.send_response(200 if body is not None else 400)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def count(self, text, cut):
        sent, waiting = 0, b""
        while sent < len(text):
            piece = text[sent : sent + self.node.random.randint(1, 9)]
            sent += len(piece)
            waiting += self.record(piece)
            # What goes out together ends anywhere: inside a record, inside a character.
            end = self.node.random.randint(1, len(waiting))
            self.chunk(waiting[:end])
            waiting = waiting[end:]
            if cut is not None and sent >= cut:
                self.close_connection = True
                self.connection.shutdown(2)
                return
            time.sleep(self.node.pause)
        self.chunk(waiting + self.record("", done=True))
        self.wfile.write(b"0\r\n\r\n")

    def record(self, content, done=False):
        record = {"model": MODEL, "created_at": "2026-01-01T00:00:00Z", "message": {"role": "assistant", "content": content}, "done": done}
        if done:
            record |= {"done_reason": "stop", "prompt_eval_count": 1, "eval_count": 1, "eval_duration": 1, "total_duration": 1}
        return json.dumps(record, ensure_ascii=False).encode() + b"\n"

    def chunk(self, data):
        if data:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.flush()
