"""Started wrongly: one clear sentence that says what to do, exit code 1, nothing harmed."""

import hashlib
import shutil
import socket
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from support.api import Account
from support.jarvis import BINARY, MODELS, environment, provide_models, run, wait_for
from support.namespace import mounting
from support.services import Services


def refused(server):
    """Starts it; gives the sentence it refuses with."""
    server.spawn()
    code = server.wait()
    return decent(code, server.stderr())


def decent(code, said):
    assert code == 1, said
    sentence = "\n".join(line for line in said.splitlines() if not line.startswith("{"))
    assert sentence.startswith("jarvis: "), said
    for ugly in ("panicked", "backtrace", "Os {", "Error("):
        assert ugly not in said, said
    return sentence


def test_the_port_is_taken(servers):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        server = servers.make(models=False, public=address)
        said = refused(server)
        assert f"{address} is already in use" in said and "--listen" in said
        server = servers.make(models=False)
        server.admin = address
        said = refused(server)
        assert f"{address} is already in use" in said and "--admin-listen" in said


def test_the_data_directory_cannot_be_written(servers):
    server = servers.make(models=False)
    server.data.mkdir()
    server.prefix = mounting(f"mount -t tmpfs -o ro none {server.data}")
    said = refused(server)
    assert f"{server.data} cannot be written" in said and "--data-dir" in said


def test_the_data_directory_is_a_file(servers):
    server = servers.make(models=False)
    server.data.write_text("")
    assert "is not a directory" in refused(server)


def test_the_disk_of_the_data_directory_is_full(servers):
    server = servers.make(models=False)
    server.data.mkdir()
    fill = f"dd if=/dev/zero of={server.data}/filler bs=4k 2>/dev/null || true"
    server.prefix = mounting(f"mount -t tmpfs -o size=64k none {server.data}; {fill}")
    said = refused(server)
    assert "is full" in said and str(server.data) in said


def test_the_data_directory_is_in_use(servers):
    first = servers.start(models=False)
    second = servers.make(models=False, home=first.home)
    said = refused(second)
    assert "in use by another Jarvis" in said and str(first.data) in said
    assert first.process.poll() is None


@pytest.fixture(scope="module")
def postgres():
    services = Services("postgres")
    yield services
    services.end()


def database(postgres):
    return postgres.tell("postgres database")


SECRET = "correct horse battery staple"
WRONG = "wrong horse battery staple"


@pytest.mark.parametrize("section", ["store", "series"])
def test_a_database_that_does_not_let_us_in_is_told_before_anything_is_changed(servers, postgres, section):
    url = database(postgres)
    name = section.upper()
    server = servers.make("serve", "--no-engine", "--node", "http://127.0.0.1:9", models=False)
    for password, where, told in ((WRONG, url, "does not let `jarvis` in"), (SECRET, url + "_absent", "has no database")):
        server.more = {f"JARVIS_{name}_URL": where, f"JARVIS_{name}_PASSWORD": password}
        said = refused(server)
        assert f"{section}.url cannot be used" in said and told in said, said
        assert password not in said
        assert not server.data.exists(), "nothing was made for nothing"


def test_a_series_database_that_is_away_stops_nothing(servers, counting):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    series = {"JARVIS_SERIES_URL": f"postgres://jarvis@127.0.0.1:{port}/series", "JARVIS_SERIES_PASSWORD": SECRET}
    server = servers.start("serve", "--no-engine", "--node", counting(last=10).url, models=False, **series)
    account = Account(server)
    assert account.ended(account.ask("Count.")["generation_id"])["status"] == "done"
    # It is said, to the operator and to the page.
    for status in (lambda: httpx.get(f"{server.admin_url}/health/ready").json(), lambda: account.get("/status")):
        told = wait_for(lambda: [one for one in status()["components"] if one["status"] != "ok"], "what is missing")
        assert [one["name"] for one in told] == ["series"], told
        assert status()["status"] == "degraded"


def test_redis_nodes_that_nobody_knows_are_named(servers):
    nodes = "redis-1.invalid:6379,redis-2.invalid:6379"
    secret = {"JARVIS_AUTH_SECRET": "x" * 64}
    server = servers.make("serve", "--no-engine", "--node", "http://127.0.0.1:9", models=False, JARVIS_REDIS_NODES=nodes, **secret)
    said = refused(server)
    assert "redis.nodes cannot be used" in said and "redis-1.invalid:6379" in said and "redis-2.invalid:6379" in said, said
    assert not server.data.exists()


def test_a_key_that_does_not_exist_names_the_nearest(servers):
    server = servers.make(models=False)
    (server.home / "jarvis.toml").write_text("[engine]\nparalel = 2\n[serve]\n")
    said = refused(server)
    assert "did you mean `engine.parallel`?" in said and "did you mean `[server]`?" in said
    assert str(server.home / "jarvis.toml") in said or "jarvis.toml" in said
    server = servers.make(models=False, JARVIS_ENGINE_THREDS="3")
    said = refused(server)
    assert "JARVIS_ENGINE_THREDS" in said and "JARVIS_ENGINE_THREADS" in said


def test_a_database_of_a_newer_version_is_left_alone(servers):
    server = servers.start(models=False)
    server.stop()
    path = server.data / "jarvis.db"
    with sqlite3.connect(path) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(_sqlx_migrations)")]
        values = ", ".join("99" if column == "version" else column for column in columns)
        db.execute(f"INSERT INTO _sqlx_migrations SELECT {values} FROM _sqlx_migrations LIMIT 1")
        # Older programs are told to keep off by this.
        db.execute("UPDATE schema_floor SET version = 99")
    before = dump(path)
    said = refused(server)
    assert "schema version 99" in said and "newer" in said
    assert dump(path) == before


def dump(path):
    with sqlite3.connect(path) as db:
        return list(db.iterdump())


def test_a_file_that_is_no_database(servers):
    server = servers.make(models=False)
    server.data.mkdir()
    (server.data / "jarvis.db").write_bytes(b"This is a letter, not a database. " * 200)
    said = refused(server)
    assert "damaged or not a database" in said and "jarvis doctor" in said


def test_no_model_server_at_all(servers):
    said = refused(servers.make("serve", "--no-engine", models=False))
    assert "--node" in said


@pytest.mark.parametrize(
    "args, settings, said",
    [
        (["--strategy", "fastest"], {}, ["balancer.strategy", "fastest", "least_connections"]),
        ([], {"OLLAMA_LB_STRATEGY": "fastest"}, ["OLLAMA_LB_STRATEGY", "fastest", "least_connections"]),
        (["--node", "elsewhere:11434"], {}, ["nodes.urls", "elsewhere:11434", "http://host:11434"]),
        ([], {"JARVIS_BALANCER_ADMIN_KEY": "much-too-quick"}, ["balancer.admin_key", "16 characters"]),
        ([], {"JARVIS_BALANCER_ADMIN_KEY": "it must be without blanks"}, ["balancer.admin_key", "without spaces"]),
        (["--slots", "0"], {}, ["balancer.slots", "from 1 to"]),
        (["--trace", "/nowhere/trace"], {}, ["balancer.trace", "cannot be written"]),
    ],
)
def test_a_balancer_that_is_configured_wrongly_says_how(servers, args, settings, said):
    sentence = refused(servers.make("balancer", *args, models=False, **settings))
    assert all(words in sentence for words in said), sentence
    assert not any(key in sentence for name, key in settings.items() if name.endswith("_KEY")), sentence


def weights(data):
    """The file of the chat model in a data directory, as a copy that may be harmed."""
    largest = max((path for path in (data / "models").rglob("*") if path.is_file() and is_gguf(path)), key=lambda path: path.stat().st_size)
    copy = largest.with_suffix(".copy")
    shutil.copyfile(largest, copy)
    copy.replace(largest)
    return largest


def is_gguf(path):
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def cut(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def overwrite(path):
    path.write_bytes(b"<html>not found</html>")


def remove(path):
    path.unlink()


@pytest.mark.parametrize("harm, word", [(cut, "truncated"), (overwrite, "GGUF"), (remove, "no such file")])
def test_a_harmed_model_file_is_named_and_the_process_lives(servers, harm, word):
    server = servers.make()
    path = weights(server.data)
    harm(path)
    code, out, _ = run(server.home, "doctor", "--data-dir", server.data)
    assert code == 1
    wrong = [line for line in out.splitlines() if line.startswith("WRONG")]
    assert any(path.name in line or "model" in line for line in wrong), out
    server.start()
    account = Account(server)
    generation = account.ended(account.ask("Hello.")["generation_id"])
    assert generation["status"] == "failed" and generation["error"]["message"], generation
    assert "panicked" not in server.stderr()
    assert word.lower() in generation["error"]["message"].lower(), generation
    account.get("/conversations")
    assert server.stop() == 0


@pytest.mark.parametrize("harm, word", [(cut, "truncated"), (overwrite, "GGUF"), (remove, "")])
def test_a_harmed_file_is_not_added(servers, harm, word):
    home = servers.home()
    provide_models(home / "data")
    before = sorted(path.name for path in (home / "data").rglob("*"))
    file = home / "model.gguf"
    shutil.copyfile(weights(home / "data"), file)
    harm(file)
    code, _, err = run(home, "model", "add", file, "--name", "new", "--data-dir", home / "data")
    said = decent(code, err)
    assert str(file) in said and word.lower() in said.lower()
    assert sorted(path.name for path in (home / "data").rglob("*") if path.name != "lock") == [name for name in before if name != "lock"]


def test_a_model_is_added_listed_used_and_removed(servers):
    server = servers.make()
    source = weights(server.data)
    file = server.home / "given.gguf"
    shutil.copyfile(source, file)
    assert run(server.home, "model", "add", file, "--name", "mine:1", "--data-dir", server.data)[0] == 0
    code, listed, _ = run(server.home, "model", "list", "--data-dir", server.data)
    assert code == 0 and "mine:1" in listed
    server.start()
    account = Account(server)
    assert "mine:1" in [model["name"] for model in account.get("/models")["items"]]
    conversation = account.conversation()
    accepted = account.post(f"/conversations/{conversation}/messages", {"content": "Hello.", "model": "mine:1"})
    assert account.ended(accepted["generation_id"])["status"] == "done"
    server.stop()
    assert run(server.home, "model", "remove", "mine:1", "--data-dir", server.data)[0] == 0
    assert "mine:1" not in run(server.home, "model", "list", "--data-dir", server.data)[1]


def test_fetch_takes_nothing_twice(servers):
    """Everything is there already: it says so and needs no network."""
    home = servers.home()
    provide_models(home / "data")
    fetch = [BINARY, "model", "fetch", "--data-dir", home / "data"]
    done = subprocess.run(
        [*mounting("true", network=False), *map(str, fetch)],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def older(path):
    """Makes the database of the program before the newest migration; returns the newest version."""
    files = sorted((Path(__file__).parents[2] / "crates/store/migrations").glob("*.sql"))
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(
            "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL,"
            " installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL,"
            " checksum BLOB NOT NULL, execution_time BIGINT NOT NULL)"
        )
        for file in files[:-1]:
            db.executescript(file.read_text())
            row = (int(file.name[:4]), file.stem[5:], hashlib.sha384(file.read_bytes()).digest())
            db.execute("INSERT INTO _sqlx_migrations VALUES (?, ?, CURRENT_TIMESTAMP, TRUE, ?, 0)", row)
        db.commit()
    return int(files[-1].name[:4])


class TestDoctor:
    def test_all_is_well(self, servers):
        server = servers.start()
        server.stop()
        code, out, err = run(server.home, "doctor", "--data-dir", server.data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
        assert code == 0, out + err
        assert "WRONG" not in out
        for looked_at in ("configuration", "processor", "public port", "admin port", "data directory", "disk space", "database"):
            assert f"{looked_at}:" in out, out
        assert "consistent" in out

    def test_an_older_database_is_looked_at_and_left_as_it_is(self, servers):
        server = servers.make(models=False)
        server.data.mkdir(mode=0o700)
        path = server.data / "jarvis.db"
        known = older(path)
        before = path.read_bytes()
        doctor = ("doctor", "--data-dir", server.data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
        code, out, err = run(server.home, *doctor)
        assert code == 0, out + err
        assert f"schema version {known - 1}; the next start brings it to {known}" in out, out
        assert path.read_bytes() == before
        assert sorted(each.name for each in server.data.iterdir()) == ["jarvis.db", "lock"]
        server.start()
        server.stop()
        assert f"consistent, schema version {known}\n" in run(server.home, *doctor)[1]

    def test_everything_wrong_is_said_at_once(self, servers):
        home = servers.home()
        (home / "data").mkdir()
        (home / "data" / "jarvis.db").write_bytes(b"not a database" * 500)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = "127.0.0.1:%d" % taken.getsockname()[1]
            code, out, _ = run(home, "doctor", "--data-dir", home / "data", "--listen", address, "--admin-listen", "127.0.0.1:0")
        assert code == 1
        wrong = "\n".join(line for line in out.splitlines() if line.startswith("WRONG"))
        assert address in wrong and "--listen" in wrong
        assert "jarvis.db" in wrong and "damaged" in wrong
        assert "model fetch" in out

    def test_a_broken_configuration_is_explained(self, servers):
        home = servers.home()
        (home / "jarvis.toml").write_text("[engin]\n[store]\nsynchronous = 1\n")
        code, out, _ = run(home, "doctor")
        assert code == 1 and out.count("WRONG") == 2 and "did you mean `[engine]`?" in out


class TestConfig:
    def test_check_show_schema(self, servers):
        home = servers.home()
        (home / "jarvis.toml").write_text("[engine]\nparallel = 2\n")
        code, out, _ = run(home, "config", "check")
        assert code == 0 and "valid" in out
        code, out, _ = run(home, "config", "show")
        assert code == 0 and "parallel = 2" in out and "jarvis.toml" in out
        code, out, _ = run(home, "config", "schema")
        assert code == 0 and '"engine"' in out

    def test_a_broken_one(self, servers):
        home = servers.home()
        (home / "jarvis.toml").write_text("[engine]\nparalel = 2\n")
        code, _, err = run(home, "config", "check")
        assert "did you mean `engine.parallel`?" in decent(code, err)
        (home / "jarvis.toml").write_text("[engine\n")
        code, _, err = run(home, "config", "check")
        assert "jarvis.toml" in decent(code, err)

    def test_a_secret_is_not_shown(self, servers):
        home = servers.home()
        secret = "hush-0123456789abcdef0123456789abcdef"
        for name in ("JARVIS_SECRET_KEY", "JARVIS_AUTH_SETUP_TOKEN"):
            code, out, err = run(home, "config", "show", **{name: secret})
            assert code == 0 and "hush" not in out + err, out


def test_the_models_of_the_test_are_the_embedded_ones():
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) > 50 << 20
