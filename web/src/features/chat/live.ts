import { Emitter } from "../../api/emitter";
import type { AnswerFrame, ServerFrame } from "../../api/protocol";
import type { ChatSocket } from "../../api/socket";
import { type Answer, applyFrame, isLive, revived, startAnswer } from "./answer";

export interface LiveOptions {
  /** Runs once before the next paint; deltas of one frame are drawn together. */
  schedule?: (run: () => void) => void;
  later?: (run: () => void, ms: number) => void;
}

const ASK_AGAIN_MS = 1000;

const ANSWER_TYPES = new Set(["queued", "delta", "done", "interrupted", "resync"]);

/**
 * The answers this page is following. Every frame is applied at once, so offsets are always
 * exact; watchers hear of text at most once a frame, and of an end at once.
 */
export class LiveAnswers {
  /** An answer ended: its final text belongs into the message list now. */
  readonly ended = new Emitter<Answer>();
  private readonly answers = new Map<string, Answer>();
  private readonly watchers = new Map<string, Set<() => void>>();
  private readonly dirty = new Set<string>();
  private readonly socket: ChatSocket;
  private readonly schedule: (run: () => void) => void;
  private readonly later: (run: () => void, ms: number) => void;
  private scheduled = false;

  constructor(socket: ChatSocket, options: LiveOptions = {}) {
    this.socket = socket;
    this.schedule = options.schedule ?? ((run) => requestAnimationFrame(run));
    this.later = options.later ?? ((run, ms) => setTimeout(run, ms));
    socket.frames.on((frame) => this.receive(frame));
    socket.changed.on((state) => {
      if (state === "ready") this.subscribeAll();
    });
  }

  get(generationId: string): Answer | undefined {
    return this.answers.get(generationId);
  }

  /** Follows an answer; `subscribed` when the server already sends it from the beginning. */
  follow(generationId: string, text = "", subscribed = false): void {
    const known = this.answers.get(generationId);
    const answer = known ? revived(known) : startAnswer(generationId, text);
    if (answer === known) return;
    this.answers.set(generationId, answer);
    if (!subscribed) this.subscribe(generationId);
    this.flush(generationId);
  }

  /** Forgets everything: somebody else may sign in next. */
  clear(): void {
    this.answers.clear();
    this.dirty.clear();
  }

  watch(generationId: string, watcher: () => void): () => void {
    const set = this.watchers.get(generationId) ?? new Set();
    this.watchers.set(generationId, set);
    set.add(watcher);
    return () => {
      set.delete(watcher);
      if (set.size === 0) this.watchers.delete(generationId);
    };
  }

  private receive(frame: ServerFrame): void {
    // The server sends an accepted answer from its first byte, unasked.
    if (frame.type === "accepted") this.follow(frame.generation_id, "", true);
    if (frame.type === "error" && frame.generation_id) {
      const { generation_id, code, message } = frame;
      if (code === "not_found") {
        this.apply({ type: "interrupted", generation_id, reason: code, message });
      }
      // The answer goes on while its database is away; only the question whose it is cannot be answered.
      if (code === "store_unavailable") this.subscribeLater(generation_id);
    }
    if (!ANSWER_TYPES.has(frame.type)) return;
    this.apply(frame as AnswerFrame);
  }

  private apply(frame: AnswerFrame): void {
    const before = this.answers.get(frame.generation_id);
    if (!before) return;
    const { answer, need } = applyFrame(before, frame);
    if (need === "subscribe") this.subscribe(frame.generation_id);
    if (need === "later") this.subscribeLater(frame.generation_id);
    if (answer === before) return;
    this.answers.set(answer.generationId, answer);
    if (isLive(answer)) {
      this.mark(answer.generationId);
      return;
    }
    this.flush(answer.generationId);
    if (isLive(before)) this.ended.emit(answer);
  }

  private subscribeAll(): void {
    for (const answer of this.answers.values()) {
      if (isLive(answer)) this.subscribe(answer.generationId);
    }
  }

  private subscribe(generationId: string): void {
    const answer = this.answers.get(generationId);
    if (!answer) return;
    const { bytes: offset, epoch } = answer;
    this.socket.tell({ type: "subscribe", generation_id: generationId, offset, epoch });
  }

  private subscribeLater(generationId: string): void {
    this.later(() => this.subscribe(generationId), ASK_AGAIN_MS);
  }

  private mark(generationId: string): void {
    this.dirty.add(generationId);
    if (this.scheduled) return;
    this.scheduled = true;
    this.schedule(() => {
      this.scheduled = false;
      const ids = [...this.dirty];
      this.dirty.clear();
      for (const id of ids) this.flush(id);
    });
  }

  private flush(generationId: string): void {
    this.dirty.delete(generationId);
    for (const watcher of this.watchers.get(generationId) ?? []) watcher();
  }
}
