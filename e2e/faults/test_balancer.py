"""Engines die under a balancer; who reads an answer does not notice. Engines of one slot, so that text can be compared."""

import signal
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from support.api import Account, new_answer
from support.cluster import EXACT, RESUMED, Cluster
from support.jarvis import wait_for
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
