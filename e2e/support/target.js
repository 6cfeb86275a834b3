// What a client of the Ollama API is pointed at: an engine, or a balancer in front of two.
import { after, afterEach, before, describe } from "node:test";
import { Jarvis, modelNames } from "./jarvis.js";

const KINDS = ["engine", "balancer"];
const ADMIN_KEY = "the-key-of-the-administrators";

/** A server at `url`; `headers` carry the key that a balancer wants before it changes models. */
export class Target {
  headers = {};

  constructor(kind, ...engineArgs) {
    this.engines = [new Jarvis("engine", ...engineArgs)];
    if (kind === "engine") return;
    this.engines.push(new Jarvis("engine", ...engineArgs));
    this.headers.authorization = `Bearer ${ADMIN_KEY}`;
  }

  async start() {
    await Promise.all(this.engines.map((engine) => engine.start()));
    if (this.engines.length === 1) return this;
    this.balancer = new Jarvis("balancer", ...this.engines.flatMap((engine) => ["--node", engine.url]));
    this.balancer.env.JARVIS_BALANCER_ADMIN_KEY = ADMIN_KEY;
    await this.balancer.start();
    return this;
  }

  get servers() {
    return [this.balancer, ...this.engines].filter(Boolean);
  }

  get url() {
    return this.servers[0].url;
  }

  get log() {
    return this.servers.map((server) => server.log).join("");
  }

  async end() {
    for (const server of this.servers) await server.end();
  }
}

/** The same tests for each kind: `tests(at)`, where `at` has, once they run, `target`, `models` and `connect`'s `client`. */
export function describeTargets(connect, tests) {
  for (const kind of KINDS)
    describe(kind, () => {
      const at = {};
      before(async () => {
        at.target = await new Target(kind).start();
        at.client = connect(at.target);
        at.models = await modelNames(at.target.url);
      });
      afterEach((context) => context.passed || context.diagnostic(at.target.log));
      after(() => at.target.end());
      tests(at);
    });
}
