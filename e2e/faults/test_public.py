"""What each listener shows, and what nobody may see."""

import json
import re
import socket
import sqlite3
from pathlib import Path

import httpx

from support.api import PASSWORD, Account
from support.jarvis import wait_for

ADMIN = ["/metrics", "/health/live", "/health/ready"]


def test_operators_paths_are_on_the_admin_listener_alone(serve, engine):
    for server in (serve, engine):
        for path in ADMIN:
            assert httpx.get(f"{server.admin_url}{path}").status_code == 200, path
            public = httpx.get(f"{server.url}{path}")
            assert "# TYPE" not in public.text and '"status"' not in public.text, path
            assert public.status_code == 404 or public.headers["content-type"].startswith("text/html"), path
    assert httpx.get(f"{serve.url}/health").json() == {"status": "ok"}
    assert serve.admin.startswith("127.0.0.1:")


def test_metrics_are_well_formed_and_move(serve, account):
    def requests():
        text = httpx.get(f"{serve.admin_url}/metrics").text
        for line in filter(None, text.splitlines()):
            assert line.startswith("#") or re.fullmatch(r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{.*\})? [-+0-9.eEinfNa]+', line), line
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("jarvis_requests_total"))

    before = requests()
    for _ in range(3):
        account.get("/me")
    assert requests() >= before + 3


def test_what_an_answer_cost_is_kept_with_its_node(servers, counting):
    node = counting(last=30)
    server = servers.start("serve", "--no-engine", "--node", node.url, models=False)
    account = Account(server)
    accepted = account.ask("Count.")
    usage = account.ended(accepted["generation_id"])["usage"]

    def kept():
        text = "SELECT node, status, prompt_tokens, completion_tokens FROM series_answers WHERE generation_id = ?"
        with sqlite3.connect(server.data / "jarvis.db") as db:
            return db.execute(text, [accepted["generation_id"]]).fetchall()

    row, = wait_for(kept, "the answer's point")
    assert row == (node.url.removeprefix("http://"), "done", usage["prompt_tokens"], usage["completion_tokens"])


def test_a_listener_for_others_wants_the_setup_token(servers):
    server = servers.start(models=False, public=f"{lan_address()}:0")
    token = re.search(r"set-up token: (\S+)", server.stdout()).group(1)
    instance = httpx.get(f"{server.url}/api/v1/instance").json()
    assert instance["needs_setup"] and instance["setup_token_required"]
    who = {"email": "ada@example.org", "password": PASSWORD}
    for wrong in ({}, {"setup_token": "wrong-" + token}, {"setup_token": ""}):
        response = httpx.post(f"{server.url}/api/v1/auth/register", json={**who, **wrong})
        assert response.status_code in (401, 403) and response.json()["code"] == "setup_token_required", response.text
    account = Account(server, setup_token=token)
    assert account.get("/me")["role"] == "admin"
    second = Account(server, "bob@example.org")
    assert second.get("/me")["role"] == "user"
    server.stop()
    server.start()
    assert server.stdout().count("set-up token") == 1, "there is an administrator: nothing to print any more"
    assert token not in server.stderr()


def lan_address():
    """An address of this machine that is not loopback; no packet is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]


def test_secrets_are_in_no_log_no_process_list_and_no_open_file(servers):
    secret = "signing-secret-0123456789abcdef-0123456789"
    home = servers.home()
    (home / "secret").write_text(secret)
    server = servers.start(home=home, JARVIS_AUTH_SECRET_FILE=str(home / "secret"), JARVIS_LOG_FILTER="debug")
    account = Account(server)
    account.ended(account.ask("What is the colour of the hidden-word-7351?")["generation_id"])
    response = account.http.post(f"{account.base}/auth/login", json={"email": account.email, "password": "wrong-" + PASSWORD})
    assert response.status_code == 401
    account.http.post(f"{account.base}/auth/refresh")
    process = Path(f"/proc/{server.pid}")
    seen = process.joinpath("cmdline").read_bytes() + process.joinpath("environ").read_bytes()
    server.stop()
    log = server.stdout() + server.stderr()
    cookies = [cookie.value for cookie in account.http.cookies.jar]
    assert cookies, "a refresh cookie was given"
    for hidden in (secret, PASSWORD, account.token, *cookies, "hidden-word-7351"):
        assert hidden not in log
        assert hidden.encode() not in seen
    assert json.loads(server.stderr().splitlines()[0]), "the log is one object a line"


def test_what_is_kept_is_for_its_owner_alone(servers):
    server = servers.start(models=False)
    Account(server)
    server.stop()
    assert server.data.stat().st_mode & 0o077 == 0
    assert server.data.joinpath("signing-key").stat().st_mode & 0o077 == 0
    raw = b"".join(path.read_bytes() for path in server.data.glob("jarvis.db*"))
    assert PASSWORD.encode() not in raw and b"argon2id" in raw
