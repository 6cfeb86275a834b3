"""Jarvis on PostgreSQL: the signed-in user's list of 50 conversations out of 200 beside FastAPI over asyncpg, and the keeping
of a posted message beside pgbench.

The list is asked for as in `conversations.py`: wrk with one thread and 32 connections, the two servers in turn, on the same
PostgreSQL server, each in a database of its own and with as many connections to it.

A posted message is what the API keeps when a user sends one: the message, the empty answer, the generation, the key
under which it was sent, the conversation's head and the user's list version, in one transaction. Jarvis' store does it
without HTTP (`crates/store/examples/post_messages.rs`), pgbench with the statements of `peers/post_message.sql`, prepared:
the same rows in the same tables, as many clients, each with an account and a conversation of its own. PostgreSQL flushes to
the disk before it acknowledges; what it is set to is read back and written down.
"""

from __future__ import annotations

import json
import os
import re
import subprocess

import conversations
import harness
from services import Database, services

POST = harness.TARGET / "release" / "examples" / "post_messages"
CLIENTS = 16
CONNECTIONS = 10
CONTENT = "Good morning Jarvis, how are you today? I would like to know what the weather will be like on Sunday afternoon."
MODEL = "llama3.2:latest"
INSTANCE = "01990000-0000-7000-8000-000000000000"
# The rows that one message adds or changes, each counted once.
TABLES = ("messages", "generations", "idempotency_keys")


def rows(database: Database) -> dict[str, int]:
    """How many rows there are."""
    counted = database.sql("SELECT " + ", ".join(f"(SELECT count(*) FROM {table})" for table in TABLES))
    return dict(zip(TABLES, map(int, counted.split("|")), strict=True))


def expect_rows(before: dict[str, int], database: Database, messages: int, who: str) -> None:
    """Every message that was counted must lie in the database with all that belongs to it."""
    after = rows(database)
    grown = {table: after[table] - before[table] for table in TABLES}
    if grown != {"messages": 2 * messages, "generations": messages, "idempotency_keys": messages}:
        raise SystemExit(f"{who} kept {messages} messages, but the tables grew by {grown}")


def settle(database: Database) -> dict[str, int]:
    """The server has nothing left to do of what came before; the number of rows."""
    database.sql("VACUUM (ANALYZE) users, conversations, messages, generations, idempotency_keys")
    return rows(database)


def post_jarvis(database: Database, seconds: int) -> dict[str, float]:
    """Jarvis' store for a while."""
    order = {"port": database.port, "user": database.user, "database": database.name, "clients": CLIENTS, "seconds": seconds,
             "content": CONTENT, "model": MODEL}
    before = settle(database)
    done = subprocess.run([POST, json.dumps(order)], capture_output=True, text=True,
                          env=harness.clean_environment() | {"JARVIS_STORE_PASSWORD": database.password})
    if done.returncode:
        raise SystemExit(f"the store failed: {done.stderr}")
    measured = json.loads(done.stdout)
    expect_rows(before, database, measured["messages"], "Jarvis")
    return measured | {"per_second": measured["messages"] / measured["seconds"]}


def post_peer(database: Database, seconds: int, first: int) -> dict[str, float]:
    """pgbench for a while."""
    # Jarvis' store removes leases that have run out.
    database.sql(f"INSERT INTO instances (id, server, since, lease_until) VALUES ('{INSTANCE}', 0, 0, 0) ON CONFLICT DO NOTHING")
    variables = {"n": first, "instance": INSTANCE, "model": MODEL, "content": CONTENT}
    command = ["pgbench", "--no-vacuum", "--protocol=prepared", f"--client={CLIENTS}", f"--jobs={os.cpu_count()}",
               f"--time={seconds}", f"--file={harness.BENCH / 'peers' / 'post_message.sql'}",
               *(f"--define={name}={value}" for name, value in variables.items())]
    before = settle(database)
    done = subprocess.run(command, capture_output=True, text=True, env=harness.clean_environment() | database.environment())
    if done.returncode or "number of failed transactions: 0 " not in done.stdout:
        raise SystemExit(f"pgbench failed: {done.stdout}{done.stderr}")
    messages = int(re.search(r"actually processed: (\d+)", done.stdout)[1])
    expect_rows(before, database, messages, "pgbench")
    return {"messages": messages, "per_second": float(re.search(r"tps = ([\d.]+) \(without", done.stdout)[1]),
            "mean_ms": float(re.search(r"latency average = ([\d.]+) ms", done.stdout)[1])}


def main() -> None:
    parser = harness.arguments(__doc__, repetitions=5)
    parser.add_argument("--seconds", type=int, default=6, help="length of one load")
    options = parser.parse_args()
    if not POST.exists():
        raise SystemExit(f"{POST} is not built: cargo build --release --package jarvis-store --example post_messages")
    with (
        services("postgres:durable") as running,
        harness.data_directory() as data,
        harness.data_directory() as peer_data,
    ):
        main_database, peer_database, posts = running.database(), running.database(), running.database()
        durable = {name: posts.sql(f"SHOW {name}") for name in ("fsync", "synchronous_commit", "full_page_writes")}
        result = harness.Result(
            name="postgres",
            title="On PostgreSQL: the list of conversations, and keeping a posted message",
            settings={"seconds": options.seconds, "list": f"{conversations.CONNECTIONS} HTTP connections, 50 of 200",
                      "database connections of each server": CONNECTIONS, "jarvis": "serve --no-engine",
                      "peer of the list": "peers/fastapi_postgres.py, 1 process, uvloop, httptools",
                      "peer of the messages": "pgbench, prepared, peers/post_message.sql", "clients": CLIENTS, **durable},
            versions={"jarvis": harness.program(options.jarvis), "PostgreSQL": posts.sql("SHOW server_version"),
                      "pgbench": harness.output_of("pgbench", "--version").split()[2],
                      "wrk": harness.output_of("wrk", "-v").splitlines()[0].split(" Copyright")[0].removeprefix("wrk "),
                      **harness.package_versions(options.python, "fastapi", "uvicorn", "uvloop", "httptools", "asyncpg", "pyjwt")},
        )
        peer_settings = peer_database.environment() | {"PEER_DB": peer_database.url, "PEER_CONNECTIONS": str(CONNECTIONS)}
        our_settings = main_database.jarvis() | {"JARVIS_STORE_CONNECTIONS": str(CONNECTIONS)}
        flags = ("serve", "--no-engine", "--node", "http://127.0.0.1:9")
        with (
            harness.jarvis(options.jarvis, data, *flags, settings=our_settings) as ours,
            harness.fastapi(options.python, peer_data, "fastapi_postgres", peer_settings) as theirs,
        ):
            ours.wait_healthy()
            measure_list(options, result, ours, theirs)
        measure_posts(options, result, posts)
    result.against("list: requests", "1/s", lambda r: r["list"]["jarvis"]["per_second"], lambda r: r["list"]["peer"]["per_second"],
                   at_least=12)
    for name in ("p50", "p99"):
        key = f"{name}_ms"
        result.against(f"list: latency {name}", "ms", lambda r, key=key: r["list"]["jarvis"][key],
                       lambda r, key=key: r["list"]["peer"][key], more_is_better=False)
    result.against("messages kept", "1/s", lambda r: r["post"]["jarvis"]["per_second"], lambda r: r["post"]["peer"]["per_second"],
                   at_least=0.8)
    result.against("mean time to keep one", "ms", lambda r: r["post"]["jarvis"]["mean_ms"], lambda r: r["post"]["peer"]["mean_ms"],
                   more_is_better=False)
    result.write(options.out)


def measure_list(options, result: harness.Result, ours: harness.Server, theirs: harness.Server) -> None:
    """The list, each server in turn."""
    token = harness.register(ours, "reader")
    conversations.seed(ours, token)
    tokens = (token, theirs.call("GET", "/token")["access_token"])
    for running, signed in zip((ours, theirs), tokens, strict=True):
        conversations.check(running, signed)
        conversations.load(running, signed, 2)
    for number in range(options.repetitions):
        busy = harness.quiet(options.patience)
        peer = conversations.load(theirs, tokens[1], options.seconds)
        jarvis = conversations.load(ours, tokens[0], options.seconds)
        result.repetitions.append({"busy_before": busy, "list": {"peer": peer, "jarvis": jarvis}})
        harness.progress(f"list {number + 1} of {options.repetitions}: {jarvis['per_second']:,.0f}/s, peer {peer['per_second']:,.0f}/s")


def measure_posts(options, result: harness.Result, database: Database) -> None:
    """Posted messages, each side in turn."""
    post_schema(options, database)
    for number, repetition in enumerate(result.repetitions):
        busy = harness.quiet(options.patience)
        peer = post_peer(database, options.seconds, number * 10**9)
        jarvis = post_jarvis(database, options.seconds)
        repetition |= {"busy_before": max(busy, repetition["busy_before"]), "post": {"peer": peer, "jarvis": jarvis}}
        harness.progress(f"messages {number + 1} of {options.repetitions}: {jarvis['per_second']:,.0f}/s, pgbench {peer['per_second']:,.0f}/s")


def post_schema(options, database: Database) -> None:
    """Jarvis' tables, with what pgbench works on; the store's client makes its own accounts."""
    done = subprocess.run([options.jarvis.resolve(), "migrate", "schema"], capture_output=True, text=True,
                          env=harness.clean_environment() | database.jarvis())
    if done.returncode:
        raise SystemExit(f"the tables could not be made: {done.stdout}{done.stderr}")
    database.sql((harness.BENCH / "peers" / "post_message_setup.sql").read_text())


if __name__ == "__main__":
    main()
