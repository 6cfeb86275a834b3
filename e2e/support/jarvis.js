// The real program as a process: started on free ports, stopped by its own process id.
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";

const BINARY = path.resolve(process.env.JARVIS_TEST_BINARY ?? "target/debug/jarvis");
const MODELS = path.resolve(process.env.JARVIS_TEST_MODELS ?? "target/test-data/models");
const PATIENCE_MS = 60_000;

// A small window: even an answer that would never end is whole within seconds. One computing thread: two would
// wait for each other as soon as a browser or a test wants a core too.
const QUICK = { JARVIS_ENGINE_CONTEXT: "640", JARVIS_ENGINE_THREADS: "1" };

/** Asks `condition` until it gives something true; fails by name when it never does. */
export async function waitFor(condition, what, patience = PATIENCE_MS) {
  const end = Date.now() + patience;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited ${patience} ms in vain for ${what}`);
    await pause(20);
  }
}

function provideModels(target) {
  for (const entry of fs.readdirSync(MODELS, { recursive: true, withFileTypes: true })) {
    const source = path.join(entry.parentPath, entry.name);
    const copy = path.join(target, path.relative(MODELS, source));
    if (entry.isDirectory()) {
      fs.mkdirSync(copy, { recursive: true });
      continue;
    }
    fs.mkdirSync(path.dirname(copy), { recursive: true });
    if (fs.statSync(source).size < 1 << 20) fs.copyFileSync(source, copy);
    else link(source, copy);
  }
}

function link(source, copy) {
  try {
    fs.linkSync(source, copy);
  } catch {
    fs.copyFileSync(source, copy);
  }
}

/** One role over a data directory of its own; may be killed and started again on the same ports. */
export class Jarvis {
  constructor(role, ...args) {
    this.home = fs.mkdtempSync(path.join(os.tmpdir(), "jarvis-e2e-"));
    this.role = role;
    this.args = args;
    this.address = "127.0.0.1:0";
    this.log = "";
    this.env = {};
    if (role !== "balancer") provideModels(path.join(this.home, "data", "models"));
  }

  get url() {
    return `http://${this.address}`;
  }

  async start() {
    const where = [
      "--listen",
      this.address,
      "--admin-listen",
      "127.0.0.1:0",
      "--data-dir",
      path.join(this.home, "data"),
    ];
    const env = { PATH: process.env.PATH, HOME: this.home, JARVIS_NODES_DISCOVER: "false", ...QUICK, ...this.env };
    this.child = spawn(BINARY, [this.role, ...where, ...this.args], {
      env,
      cwd: this.home,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.ended = once(this.child, "exit");
    let said = "";
    this.child.stdout.on("data", (data) => {
      said += data;
      this.log += data;
    });
    this.child.stderr.on("data", (data) => {
      this.log += data;
    });
    const address = () => {
      if (this.child.exitCode !== null) throw new Error(`it ended with ${this.child.exitCode}:\n${this.log}`);
      return said.match(/is ready: http:\/\/(\S+)\n/)?.[1];
    };
    this.address = await waitFor(address, "the start");
    return this;
  }

  /** Kills it as a power cut of the process would. */
  async kill() {
    this.child.kill("SIGKILL");
    await this.ended;
  }

  /** Asks it to stop; gives its exit code. */
  async stop() {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill("SIGTERM");
    const [code] = await this.ended;
    return code;
  }

  /** For the end of a test: stopped, and nothing left. */
  async end() {
    if (this.child) await this.stop();
    fs.rmSync(this.home, { recursive: true, force: true });
  }
}

/** The names of the two embedded models: one that talks, one that embeds. */
export async function modelNames(url) {
  const { models } = await (await fetch(`${url}/api/tags`)).json();
  const named = (capability) => models.find((model) => model.capabilities.includes(capability)).name;
  return { chat: named("completion"), embed: named("embedding") };
}
