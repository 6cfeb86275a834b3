import { Emitter } from "./emitter";
import { ApiProblem } from "./problem";
import {
  type Accepted,
  CLOSE_UNAUTHORIZED,
  type ClientFrame,
  parseFrame,
  type RegenerateFrame,
  type SendFrame,
  type ServerFrame,
} from "./protocol";

export type Connection = "closed" | "connecting" | "ready" | "waiting";

/** The part of the browser's WebSocket that is used: tests bring their own. */
export interface WireSocket {
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
  send(text: string): void;
  close(code?: number): void;
}

export interface SocketOptions {
  connect: () => WireSocket;
  /** A token that is valid now; null when nobody is signed in. Throws when the server is out of reach. */
  token: (renew: boolean) => Promise<string | null>;
  setTimeout?: (run: () => void, ms: number) => unknown;
  clearTimeout?: (timer: unknown) => void;
  /** In [0, 1): the jitter of the back-off. */
  random?: () => number;
}

interface Pending {
  frame: SendFrame | RegenerateFrame;
  resolve: (accepted: Accepted) => void;
  reject: (problem: ApiProblem) => void;
}

const FIRST_DELAY_MS = 400;
const LONGEST_DELAY_MS = 15_000;
/** From opening to `ready`: a half-open connection must not hold the page for minutes. */
const READY_WITHIN_MS = 10_000;

/**
 * One connection to `/ws`, kept alive. It authenticates first, reconnects with jittered
 * exponential back-off, and repeats every unanswered `send` under its own id.
 * What to re-subscribe is known to those who listen to `ready`.
 */
export class ChatSocket {
  readonly frames = new Emitter<ServerFrame>();
  readonly changed = new Emitter<Connection>();
  private readonly options: Required<SocketOptions>;
  private readonly pending = new Map<string, Pending>();
  private wire: WireSocket | null = null;
  private current: Connection = "closed";
  private wanted = false;
  private failures = 0;
  private renewFirst = false;
  private timer: unknown;
  /** Grows with every attempt: what an abandoned attempt still does is ignored. */
  private attempt = 0;

  constructor(options: SocketOptions) {
    this.options = {
      setTimeout: (run, ms) => setTimeout(run, ms),
      clearTimeout: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout>),
      random: Math.random,
      ...options,
    };
  }

  get state(): Connection {
    return this.current;
  }

  start(): void {
    if (this.wanted) return;
    this.wanted = true;
    this.failures = 0;
    void this.open();
  }

  stop(): void {
    this.wanted = false;
    this.drop();
    this.become("closed");
    for (const { reject } of this.pending.values()) {
      reject(new ApiProblem("offline", 0, "the connection was closed"));
    }
    this.pending.clear();
  }

  /** Tries at once (the network came back, the user asked) instead of waiting out the back-off. */
  retryNow(): void {
    if (!this.wanted || this.current !== "waiting") return;
    this.failures = 0;
    void this.open();
  }

  /** Gives up a connection that the system says is dead. */
  lost(): void {
    if (this.wanted && this.current !== "waiting") this.retryLater();
  }

  /** Shows the server a newer token on the open connection. */
  renew(token: string): void {
    if (this.current === "ready") this.write({ type: "auth", access_token: token });
  }

  /** Sends a question; kept and repeated until the server accepts or refuses it. */
  request(frame: SendFrame | RegenerateFrame): Promise<Accepted> {
    return new Promise((resolve, reject) => {
      this.pending.set(frame.id, { frame, resolve, reject });
      this.tell(frame);
    });
  }

  /** Sends now or not at all: subscriptions and stops are renewed by whoever wants them. */
  tell(frame: ClientFrame): boolean {
    if (this.current !== "ready") return false;
    this.write(frame);
    return true;
  }

  private async open(): Promise<void> {
    this.drop();
    const attempt = ++this.attempt;
    this.become("connecting");
    let token: string | null;
    try {
      token = await this.options.token(this.renewFirst);
    } catch {
      if (attempt === this.attempt) this.retryLater();
      return;
    }
    if (attempt !== this.attempt || !this.wanted) return;
    if (token === null) {
      this.stop();
      return;
    }
    this.renewFirst = false;
    this.attach(this.options.connect(), token);
  }

  private attach(wire: WireSocket, token: string): void {
    this.wire = wire;
    this.timer = this.options.setTimeout(() => this.retryLater(), READY_WITHIN_MS);
    wire.onopen = () => this.write({ type: "auth", access_token: token });
    wire.onmessage = (event) => {
      const frame = typeof event.data === "string" ? parseFrame(event.data) : null;
      if (frame && this.wire === wire) this.receive(frame);
    };
    wire.onclose = (event) => {
      if (this.wire !== wire) return;
      this.renewFirst = event.code === CLOSE_UNAUTHORIZED;
      this.retryLater();
    };
  }

  private receive(frame: ServerFrame): void {
    if (frame.type === "ready" && this.current !== "ready") {
      this.options.clearTimeout(this.timer);
      this.failures = 0;
      this.become("ready");
      for (const { frame: unanswered } of this.pending.values()) this.write(unanswered);
    }
    if (frame.type === "accepted") this.settle(frame.id, (entry) => entry.resolve(frame));
    if (frame.type === "error" && frame.id) {
      const problem = new ApiProblem(frame.code, 0, frame.message);
      this.settle(frame.id, (entry) => entry.reject(problem));
    }
    this.frames.emit(frame);
  }

  private settle(id: string, how: (entry: Pending) => void): void {
    const entry = this.pending.get(id);
    if (!entry) return;
    this.pending.delete(id);
    how(entry);
  }

  private retryLater(): void {
    this.drop();
    if (!this.wanted) return;
    const ceiling = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.failures);
    this.failures += 1;
    // Between half and all of the ceiling: thousands of pages must not come back together.
    const delay = ceiling * (0.5 + 0.5 * this.options.random());
    this.become("waiting");
    this.timer = this.options.setTimeout(() => void this.open(), delay);
  }

  private drop(): void {
    this.attempt += 1;
    this.options.clearTimeout(this.timer);
    const wire = this.wire;
    this.wire = null;
    if (!wire) return;
    wire.onopen = null;
    wire.onmessage = null;
    wire.onclose = null;
    wire.close();
  }

  private write(frame: ClientFrame): void {
    this.wire?.send(JSON.stringify(frame));
  }

  private become(state: Connection): void {
    if (this.current === state) return;
    this.current = state;
    this.changed.emit(state);
  }
}
