"""Opens WebSockets and keeps them open: the client side of `websockets.py`, a process of its own.

Reads lines of JSON from standard input: `{"port", "count", "tokens"}`, each asking for `count` further sockets. `tokens`
are handed out in turn, each sent as the first frame (`auth`), and `ready` is awaited; without tokens the socket only
opens. Answers each line, when they are open, with `{"open": N}`. Answers pings until standard input is closed, then
prints `{"open": N, "pings": M}`: how many sockets were still open and how many pings they answered.
"""

from __future__ import annotations

import base64
import json
import os
import select
import socket
import sys

import harness

PING, PONG, CLOSE = 0x9, 0xA, 0x8


class Connection:
    """One WebSocket, as much of it as an idle client needs."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.buffer = b""
        self.pings = 0
        key = base64.b64encode(os.urandom(16)).decode()
        head = (f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n")
        self.socket.sendall(head.encode())
        while b"\r\n\r\n" not in self.buffer:
            self.receive()
        answer, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        if not answer.startswith(b"HTTP/1.1 101"):
            raise SystemExit(f"not upgraded: {answer!r}")

    def receive(self) -> None:
        """Waits for bytes."""
        data = self.socket.recv(4096)
        if not data:
            raise ConnectionError("the server closed a socket")
        self.buffer += data

    def frame(self) -> tuple[int, bytes] | None:
        """Takes one whole frame from the buffer: opcode and payload (a server's frames are not masked)."""
        if len(self.buffer) < 2:
            return None
        length, start = self.buffer[1] & 0x7F, 2
        if length == 126:
            length, start = int.from_bytes(self.buffer[2:4]), 4
        elif length == 127:
            raise SystemExit("a frame larger than an idle socket should get")
        if len(self.buffer) < start + length:
            return None
        opcode, payload = self.buffer[0] & 0xF, self.buffer[start:start + length]
        self.buffer = self.buffer[start + length:]
        return opcode, payload

    def send(self, opcode: int, payload: bytes) -> None:
        """Sends one frame, masked with zeros."""
        length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2)
        self.socket.sendall(bytes([0x80 | opcode]) + length + b"\0\0\0\0" + payload)

    def sign_in(self, token: str) -> None:
        """The first frame and its answer."""
        self.send(0x1, json.dumps({"type": "auth", "access_token": token}).encode())
        while (frame := self.frame()) is None:
            self.receive()
        if json.loads(frame[1])["type"] != "ready":
            raise SystemExit(f"not signed in: {frame[1]!r}")

    def answer(self) -> None:
        """Reads what has arrived and answers pings."""
        self.receive()
        while (frame := self.frame()) is not None:
            opcode, payload = frame
            if opcode == PING:
                self.send(PONG, payload)
                self.pings += 1
            elif opcode == CLOSE:
                raise ConnectionError(f"the server closed a socket: {payload!r}")


class Holder:
    """All connections."""

    def __init__(self) -> None:
        self.poll = select.epoll()
        self.poll.register(sys.stdin.fileno(), select.EPOLLIN | select.EPOLLHUP)
        self.connections: dict[int, Connection] = {}
        self.pings = 0

    def open(self, port: int, count: int, tokens: list[str]) -> None:
        """Further sockets."""
        for number in range(count):
            connection = Connection(port)
            if tokens:
                connection.sign_in(tokens[number % len(tokens)])
            self.connections[connection.socket.fileno()] = connection
            self.poll.register(connection.socket.fileno(), select.EPOLLIN)

    def answer(self, descriptor: int) -> None:
        """Something has arrived on a socket."""
        connection = self.connections[descriptor]
        try:
            connection.answer()
        except ConnectionError as error:
            print(error, file=sys.stderr)
            del self.connections[descriptor]
            connection.socket.close()
        finally:
            self.pings += connection.pings
            connection.pings = 0

    def run(self) -> None:
        """Until standard input ends."""
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor != sys.stdin.fileno():
                    self.answer(descriptor)
                elif line := sys.stdin.readline():
                    self.open(**json.loads(line))
                    print(json.dumps({"open": len(self.connections)}), flush=True)
                else:
                    print(json.dumps({"open": len(self.connections), "pings": self.pings}), flush=True)
                    return


def main() -> None:
    harness.raise_file_limit()
    Holder().run()


if __name__ == "__main__":
    main()
