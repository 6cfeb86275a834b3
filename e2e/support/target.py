"""What a client of the Ollama API is pointed at: an engine, or a balancer in front of two."""

KINDS = ("engine", "balancer")
ADMIN_KEY = "the-key-of-the-administrators"

# The largest file of weights that a test uploads fits.
BODY_BYTES = 256 << 20


class Target:
    """A server at `url`; `headers` carry the key that a balancer wants before it changes models."""

    def __init__(self, servers, kind, *engine_args):
        self.kind = kind
        self.engines = [servers.start("engine", *engine_args) for _ in range(KINDS.index(kind) + 1)]
        self.front, self.headers = self.engines[0], {}
        if kind == "balancer":
            self.front = start_balancer(servers, self.engines)
            self.headers = {"authorization": f"Bearer {ADMIN_KEY}"}

    @property
    def url(self):
        return self.front.url

    def end(self):
        for server in {self.front, *self.engines}:
            server.end()


def start_balancer(servers, engines, *args, **more):
    """A balancer in front of these engines."""
    nodes = [arg for engine in engines for arg in ("--node", engine.url)]
    settings = {"JARVIS_BALANCER_ADMIN_KEY": ADMIN_KEY, "JARVIS_BALANCER_BODY_BYTES": str(BODY_BYTES), **more}
    return servers.start("balancer", *nodes, *args, models=False, **settings)
