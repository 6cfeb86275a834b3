"""The signed-in user's list of 50 conversations out of 200: Jarvis beside FastAPI on uvicorn, under the same load.

wrk with one thread and 32 connections asks `GET /api/v1/conversations?limit=50` of either server in turn. Three more
loads on Jarvis are reported without a target: a client that sends the ETag back (304), a list that changes ten times a
second, and one that changes as fast as one client can change it (each change makes the next answer come from the
database).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import threading
from collections.abc import Iterator

import harness
from harness import Server

CONVERSATIONS = 200
CONNECTIONS = 32
PATH = "/api/v1/conversations?limit=50"


def load(running: Server, token: str, seconds: int, etag: str | None = None) -> dict[str, float]:
    """One run of wrk; ends the measurement where a request failed."""
    environment = {**os.environ, "AUTHORIZATION": f"Bearer {token}"}
    if etag:
        environment["IF_NONE_MATCH"] = etag
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", "-s",
               str(harness.BENCH / "wrk_report.lua"), f"http://127.0.0.1:{running.port}{PATH}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    measured = json.loads(done.stdout.strip().splitlines()[-1])
    if measured["failed"] or not measured["requests"]:
        raise SystemExit(f"requests failed: {done.stdout}")
    return measured | {"per_second": measured["requests"] / measured["seconds"]}


def seed(running: Server, token: str) -> list[str]:
    """The peer's 200 titles as conversations; returns their ids."""
    made = []
    for number in range(CONVERSATIONS):
        body = {"title": f"Conversation number {number}"}
        made.append(running.call("POST", "/api/v1/conversations", body, token)["id"])
    return made


def check(running: Server, token: str) -> str | None:
    """Both servers must send 50 titled items; returns the ETag, if there is one."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    connection.request("GET", PATH, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    items = json.loads(answer.read())["items"]
    if answer.status != 200 or len(items) != 50 or not all(item["title"].startswith("Conversation") for item in items):
        raise SystemExit(f"not the list that is to be measured: {answer.status}, {len(items)} items")
    return answer.getheader("ETag")


@contextlib.contextmanager
def writer(running: Server, token: str, conversation: str, pause: float) -> Iterator[dict[str, int]]:
    """Renames a conversation again and again for the duration of the block, and counts how often."""
    stop, count = threading.Event(), {"writes": 0}

    def write() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        while not stop.wait(pause):
            body = json.dumps({"title": f"Conversation renamed {count['writes']} times"})
            connection.request("PATCH", f"/api/v1/conversations/{conversation}", body, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"renaming failed: {answer.status}")
            count["writes"] += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield count
    finally:
        stop.set()
        thread.join()


def repetition(options, ours: Server, theirs: Server, tokens: tuple[str, str], renamed: str) -> dict:
    """Peer, Jarvis, and Jarvis under the three other loads."""
    (our_token, their_token), seconds = tokens, options.seconds
    measured: dict = {"busy_before": harness.quiet(options.patience)}
    measured["peer"] = load(theirs, their_token, seconds)
    measured["jarvis"] = load(ours, our_token, seconds)
    measured["jarvis_not_modified"] = load(ours, our_token, seconds, check(ours, our_token))
    for name, pause in (("jarvis_10_writes", 0.1), ("jarvis_writes", 0.0)):
        with writer(ours, our_token, renamed, pause) as count:
            measured[name] = load(ours, our_token, seconds)
        measured[name] |= count
    return measured


def main() -> None:
    parser = harness.arguments(__doc__, repetitions=5)
    parser.add_argument("--seconds", type=int, default=6, help="length of one load")
    options = parser.parse_args()
    result = harness.Result(
        name="conversations",
        title="The list of conversations: 50 of 200, signed in, 32 connections",
        settings={"seconds": options.seconds, "connections": CONNECTIONS, "conversations": CONVERSATIONS, "path": PATH,
                  "jarvis": "serve --no-engine", "peer": "peers/fastapi_backend.py, 1 process, uvloop, httptools"},
        versions={"jarvis": harness.program(options.jarvis), "wrk": harness.output_of("wrk", "-v").splitlines()[0].split(" Copyright")[0],
                  **harness.package_versions(options.python, "fastapi", "uvicorn", "uvloop", "httptools", "pyjwt")},
    )
    with (
        harness.data_directory() as data,
        harness.data_directory() as peer_data,
        harness.jarvis(options.jarvis, data, "serve", "--no-engine", "--node", "http://127.0.0.1:9") as ours,
        harness.fastapi(options.python, peer_data) as theirs,
    ):
        ours.wait_healthy()
        token = harness.register(ours, "reader")
        made = seed(ours, token)
        tokens = (token, theirs.call("GET", "/token")["access_token"])
        for running, signed in zip((ours, theirs), tokens, strict=True):
            check(running, signed)
            load(running, signed, 2)
        for number in range(options.repetitions):
            result.repetitions.append(repetition(options, ours, theirs, tokens, made[0]))
            harness.progress(f"{number + 1} of {options.repetitions}")
    result.against("requests", "1/s", lambda r: r["jarvis"]["per_second"], lambda r: r["peer"]["per_second"], at_least=20)
    for name, target in (("p50", None), ("p99", 20)):
        key = f"{name}_ms"
        result.against(f"latency {name}", "ms", lambda r, key=key: r["jarvis"][key], lambda r, key=key: r["peer"][key],
                       more_is_better=False, at_least=target)
    for title, name in (("requests answered 304 (ETag sent back)", "jarvis_not_modified"),
                        ("requests while the list changes 10 times a second", "jarvis_10_writes"),
                        ("requests while the list changes all the time", "jarvis_writes")):
        result.against(title, "1/s", lambda r, name=name: r[name]["per_second"], lambda r: r["peer"]["per_second"])
    result.single("changes of the list meanwhile", "1/s", lambda r: r["jarvis_writes"]["writes"] / options.seconds)
    result.write(options.out)


if __name__ == "__main__":
    main()
