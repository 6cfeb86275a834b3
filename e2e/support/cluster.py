"""Two real engines under a real balancer."""

import re

import httpx

from support.api import LONG
from support.jarvis import wait_for
from support.stream import read
from support.target import start_balancer

# Whatever else an engine does, and whichever it is: the same question has the same answer, character for character.
EXACT = ("--parallel", "1", "--no-prefix-reuse")
LIMIT = 120
RESUMED = 'ollama_lb_resumes_total{outcome="resumed"}'


class Cluster:
    """A balancer in front of two engines: of one slot unless others are given, so that text can be compared."""

    def __init__(self, servers, engines=None, **settings):
        self.engines = engines or [servers.start("engine", *EXACT) for _ in range(2)]
        settings = {"JARVIS_SERVER_SHUTDOWN_SECONDS": "60", **settings}
        self.balancer = start_balancer(servers, self.engines, **settings)
        self.url = self.balancer.url
        self.wait_up("both engines")
        listed = httpx.get(f"{self.url}/api/tags").json()["models"]
        self.model = next(model["name"] for model in listed if "completion" in model["capabilities"])

    def wait_up(self, what):
        wait_for(lambda: all(node["up"] for node in self.nodes()), what)

    def body(self, dialect, question=LONG):
        return dialect.body(self.model, question, LIMIT)

    def undisturbed(self, dialect, question=LONG):
        """The whole answer, from one of the engines itself."""
        whole = read(self.engines[0].url, dialect, self.body(dialect, question))
        assert whole.usage[1] == LIMIT, "an answer shorter than its limit leaves no time to kill its engine"
        return whole

    def read(self, dialect, watch=None, question=LONG):
        return read(self.url, dialect, self.body(dialect, question), watch)

    def admin(self, method, path, **kwargs):
        headers = {"authorization": f"Bearer {self.balancer.more['JARVIS_BALANCER_ADMIN_KEY']}"}
        response = httpx.request(method, f"{self.balancer.admin_url}/admin{path}", headers=headers, **kwargs)
        assert response.is_success, response.text
        return response.json() if response.content else None

    def nodes(self):
        return self.admin("GET", "/state")["nodes"]

    def engine(self, name):
        return next(engine for engine in self.engines if engine.public == name)

    def working(self):
        """The engines that are at something."""
        return [self.engine(node["name"]) for node in self.nodes() if node["active"]]

    def count(self, metric):
        text = httpx.get(f"{self.balancer.admin_url}/metrics").text
        found = re.search(rf"^{re.escape(metric)} (\d+)$", text, re.MULTILINE)
        return int(found[1]) if found else 0
