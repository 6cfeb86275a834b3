"""Engines die under a balancer; who reads an answer does not notice. Engines of one slot, so that text can be compared."""

import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from support.answers import Broken
from support.api import LONG, Account, new_answer
from support.cluster import EXACT, RESUMED, Cluster
from support.jarvis import wait_for
from support.namespace import mounting
from support.stream import CHAT, COMPLETIONS, GENERATE, once, read


@pytest.fixture
def cluster(servers):
    return Cluster(servers, JARVIS_BALANCER_PROBE_SECONDS="1")


def longer_than(characters):
    return lambda answer: len(answer.text) > characters


@pytest.mark.parametrize("dialect", [CHAT, GENERATE, COMPLETIONS], ids=lambda dialect: dialect.path)
def test_an_engine_killed_in_mid_answer_is_not_noticed(cluster, dialect):
    whole = cluster.undisturbed(dialect)
    answer = cluster.read(dialect, once(longer_than(100), lambda answer: cluster.engine(answer.node).kill()))
    answer.check_same(whole)
    assert cluster.count(RESUMED) == 1
    # It comes back, the other goes: the same balancer finds its way.
    dead = cluster.engine(answer.node)
    dead.start()
    cluster.wait_up("the engine to be back")
    next(engine for engine in cluster.engines if engine is not dead).kill()
    again = cluster.read(dialect)
    again.check_same(whole)
    assert cluster.engine(again.node) is dead


def test_an_engine_killed_before_its_first_byte_is_not_noticed(servers):
    # Looked at but once: while an engine stands still, no look may find that out.
    cluster = Cluster(servers, JARVIS_BALANCER_PROBE_SECONDS="600")
    whole = cluster.undisturbed(CHAT)
    first, second = cluster.engines
    cluster.admin("POST", f"/nodes/{second.public}/drain")
    first.signal(signal.SIGSTOP)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(cluster.read, CHAT)
        wait_for(lambda: cluster.working() == [first], "the request at the engine that stands still")
        cluster.admin("DELETE", f"/nodes/{second.public}/drain")
        first.kill()
        answer = answer.result()
    answer.check_same(whole)
    assert cluster.engine(answer.node) is second
    assert cluster.count("ollama_lb_retries_total") == 1 and cluster.count(RESUMED) == 0


def test_without_any_engine_it_says_so_at_once_and_finds_them_again(cluster):
    whole = cluster.undisturbed(CHAT)
    for engine in cluster.engines:
        engine.kill()
    for dialect in (CHAT, COMPLETIONS, GENERATE):
        response = httpx.post(f"{cluster.url}{dialect.path}", json=cluster.body(dialect))
        assert response.status_code == 503, response.text
        assert int(response.headers["retry-after"]) >= 1
        error = response.json()["error"]
        assert (error["message"] if dialect.openai else error), response.text
    health = httpx.get(f"{cluster.url}/health").json()
    assert health["status"] == "no_healthy_node" and not any(node["up"] for node in health["nodes"])
    cluster.engines[0].start()

    def answers():
        return httpx.post(f"{cluster.url}{CHAT.path}", json=cluster.body(CHAT), timeout=60).status_code == 200

    wait_for(answers, "an answer after the restart of an engine")
    answer = cluster.read(CHAT)
    answer.check_same(whole)
    assert cluster.engine(answer.node) is cluster.engines[0]


def test_a_stop_of_the_balancer_lets_running_answers_end(cluster):
    whole = cluster.undisturbed(CHAT)
    stop = once(longer_than(50), lambda _: cluster.balancer.signal(signal.SIGTERM))
    cluster.read(CHAT, stop).check_same(whole)
    assert cluster.balancer.wait() == 0


def test_the_guides_variable_names_the_strategy(servers):
    cluster = Cluster(servers, OLLAMA_LB_STRATEGY="least_connections")
    assert httpx.get(f"{cluster.url}/health").json()["strategy"] == "least_connections"
    others = []

    def another(answer):
        others.append(cluster.read(CHAT))
        assert not answer.closed

    first = cluster.read(CHAT, once(longer_than(0), another))
    assert first.reason == others[0].reason == "least_connections"
    assert {first.node, others[0].node} == {engine.public for engine in cluster.engines}


@pytest.mark.parametrize("role", [("api",), ("serve", "--no-engine")], ids=lambda role: role[0])
def test_a_chat_through_a_balancer_survives_its_engine(cluster, servers, role):
    server = servers.start(*role, "--node", cluster.url, models=False)
    account = Account(server)
    with account.socket() as live:
        accepted = live.ask()
        seen = live.read(new_answer(accepted), until=lambda seen: len(seen.bytes) > 150)
        (engine,) = cluster.working()
        engine.kill()
        live.read(seen)
    generation = account.ended(accepted["generation_id"])
    assert generation["status"] == "done", generation
    seen.check_kept(generation["text"])
    assert len(seen.bytes) > 200
    assert cluster.count(RESUMED) == 1


def test_a_name_stands_for_every_node_that_it_has_an_address_of(servers):
    engine = servers.start("engine", *EXACT)
    port = engine.url.rsplit(":", 1)[1]
    balancer = servers.start("balancer", "--node", f"dns+http://localhost:{port}")
    node = f"127.0.0.1:{port}"
    health = wait_for(lambda: httpx.get(f"{balancer.url}/health").json(), "the balancer")
    assert {"name": node, "up": True}.items() <= next(each for each in health["nodes"] if each["name"] == node).items()
    models = httpx.get(f"{balancer.url}/api/tags").json()["models"]
    model = next(model["name"] for model in models if "completion" in model["capabilities"])
    answer = read(balancer.url, CHAT, CHAT.body(model, "Name a fruit.", 8))
    assert answer.node == node and answer.text



def test_addresses_join_and_leave_with_their_name(servers):
    first = servers.start("engine", *EXACT)
    port = first.public.rsplit(":", 1)[1]
    second = servers.start("engine", *EXACT, public=f"127.0.0.2:{port}")
    hosts = servers.home() / "hosts"

    def name(*engines):
        # Written in place: this file is what the balancer sees as the system's.
        with hosts.open("w") as file:
            file.writelines(f"{engine.public.rsplit(':', 1)[0]} engines.example\n" for engine in engines)

    name(first, second)
    balancer = servers.start(
        "balancer",
        *("--node", f"dns+http://engines.example:{port}", "--strategy", "round_robin"),
        models=False,
        prefix=mounting(f"mount --bind {hosts} /etc/hosts"),
        JARVIS_BALANCER_PROBE_SECONDS="1",
    )

    def up(*engines):
        health = httpx.get(f"{balancer.url}/health").json()
        return {node["name"] for node in health["nodes"] if node["up"]} == {engine.public for engine in engines}

    wait_for(lambda: up(first, second), "both addresses")
    models = httpx.get(f"{balancer.url}/api/tags").json()["models"]
    body = CHAT.body(next(model["name"] for model in models if "completion" in model["capabilities"]), LONG, 60)

    def nodes():
        return {read(balancer.url, CHAT, body).node for _ in range(4)}

    assert nodes() == {first.public, second.public}
    # One goes while it answers: that answer ends, and no other begins there.
    leaves = once(longer_than(0), lambda _: name(second))
    answer = read(balancer.url, CHAT, body, leaves)
    assert answer.ends and wait_for(lambda: up(second), "the address to be gone")
    assert nodes() == {second.public}
    # The name is lost altogether: what was known stays.
    name()
    wait_for(lambda: "cannot be looked up" in balancer.stderr(), "the loss to be said")
    assert nodes() == {second.public}
    name(first, second)
    wait_for(lambda: up(first, second), "the address to be back")
    assert nodes() == {first.public, second.public}


class Figures:
    """A balancer before one engine of one slot, and what its metrics say."""

    def __init__(self, servers):
        self.engine = servers.start("engine", *EXACT)
        settings = {"JARVIS_BALANCER_SLOTS": "1", "JARVIS_BALANCER_MAX_QUEUE": "1", "JARVIS_BALANCER_PROBE_SECONDS": "1"}
        self.balancer = servers.start("balancer", "--node", self.engine.url, models=False, **settings)
        listed = httpx.get(f"{self.engine.url}/api/tags").json()["models"]
        self.model = next(model["name"] for model in listed if "completion" in model["capabilities"])

    def now(self):
        """The value of every series; the name of the node is left out of it."""
        text = httpx.get(f"{self.balancer.admin_url}/metrics").text.replace(f'upstream="{self.engine.public}"', "")
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("ollama_lb_"))
        return {name.replace("{}", "").replace("{,", "{").replace(",}", "}"): float(value) for name, value in lines}

    def until(self, **values):
        """Waits until these series have these values; gives all."""

        def reached():
            now = self.now()
            return now if all(now.get(f"ollama_lb_{name}") == value for name, value in values.items()) else None

        return wait_for(reached, f"{values}, instead of {self.now()}")

    def question(self, limit=60):
        return CHAT.body(self.model, LONG, limit)

    def read(self, watch=None):
        return read(self.balancer.url, CHAT, self.question(), watch)


def test_the_metrics_say_what_happened(servers):
    figures = Figures(servers)
    answer = figures.read()
    now = figures.until(**{'requests_total{outcome="answered"}': 1})
    for histogram in ("request_duration_seconds", "first_token_seconds", "token_gap_seconds", "prediction_error_seconds"):
        assert now[f"ollama_lb_{histogram}_count"] == 1 and now[f"ollama_lb_{histogram}_sum"] > 0, histogram
    assert now["ollama_lb_first_token_seconds_sum"] < now["ollama_lb_request_duration_seconds_sum"]
    decoding = now["ollama_lb_request_duration_seconds_sum"] - now["ollama_lb_first_token_seconds_sum"]
    assert now["ollama_lb_tokens_per_second_count"] == 1
    assert now["ollama_lb_tokens_per_second_sum"] == pytest.approx(answer.usage[1] / decoding, rel=0.2)
    assert now["ollama_lb_expected_cache_ratio_count"] == 1 and now["ollama_lb_expected_cache_ratio_sum"] == 0
    assert now["ollama_lb_upstream_status"] == 1 and now["ollama_lb_active_connections"] == 0
    assert 0 < now["ollama_lb_health_score"] <= 1

    # The same prompt again: it is expected in the node's cache. One works, one waits, the third is too many.
    waiting = []

    def crowd(_):
        waiting.append(pool.submit(figures.read))
        figures.until(queue_size=1, active_connections=1)
        third = httpx.post(f"{figures.balancer.url}{CHAT.path}", json=figures.question())
        assert third.status_code == 503, third.text

    with ThreadPoolExecutor() as pool:
        figures.read(once(longer_than(0), crowd))
        waiting[0].result()
    now = figures.until(queue_size=0, active_connections=0, **{'requests_total{outcome="answered"}': 3})
    assert now['ollama_lb_shed_total{reason="queue_full"}'] == 1
    assert now["ollama_lb_queue_wait_seconds_count"] == 1 and now["ollama_lb_queue_wait_seconds_sum"] > 0
    assert now["ollama_lb_expected_cache_ratio_sum"] > 0.5

    # One leaves, and one loses its node.
    with httpx.stream("POST", f"{figures.balancer.url}{CHAT.path}", json=figures.question()) as left:
        next(left.iter_lines())
    figures.until(active_connections=0, **{'requests_total{outcome="client_left"}': 1})
    with pytest.raises(Broken, match="could not be continued"):
        figures.read(once(longer_than(0), lambda _: figures.engine.kill()))
    now = figures.until(upstream_status=0, active_connections=0, **{'requests_total{outcome="failed"}': 1})
    assert sum(value for name, value in now.items() if name.startswith("ollama_lb_resumes_total")) == 1
    assert now[RESUMED] == 0
    assert httpx.post(f"{figures.balancer.url}{CHAT.path}", json=figures.question()).status_code == 503
    assert figures.now()['ollama_lb_shed_total{reason="no_node"}'] == 1


# A prompt that takes an engine of one thread far longer than a second to read.
MUCH = "The sea is wide and the ship is small. " * 55


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("prompt", [LONG, MUCH], ids=["decoding", "reading"])
def test_a_client_that_leaves_frees_the_engine_within_a_second(servers, stream, prompt):
    figures = Figures(servers)
    figures.read()
    body = figures.question(limit=400) | {"stream": stream, "messages": [{"role": "user", "content": prompt}]}
    text = json.dumps(body).encode()
    head = f"POST {CHAT.path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(text)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", int(figures.balancer.public.rsplit(":", 1)[1]))) as client:
        client.sendall(head + text)
        figures.until(active_connections=1)
        if stream and prompt is LONG:
            assert client.recv(10)
    left = time.monotonic()
    figures.until(active_connections=0)
    assert time.monotonic() - left < 1
    # The engine itself is free as well.
    begun = time.monotonic()
    httpx.post(f"{figures.engine.url}{CHAT.path}", json=figures.question(limit=1) | {"stream": False}).raise_for_status()
    print(f"the engine answered {time.monotonic() - begun:.2f} s later")
