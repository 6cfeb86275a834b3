import type { AnswerFrame } from "../../api/protocol";
import type { Usage } from "../../api/types";

export type Phase = "queued" | "running" | "done" | "stopped" | "interrupted" | "failed";

/** An answer as far as this page holds it. */
export interface Answer {
  readonly generationId: string;
  readonly phase: Phase;
  readonly epoch: number;
  readonly text: string;
  /** Length of `text` in bytes of UTF-8: the address of what comes next. */
  readonly bytes: number;
  readonly queue: { position: number; etaMs: number | null } | null;
  readonly usage: Usage | null;
  readonly error: { code: string; message: string } | null;
}

/** `subscribe`: bytes are missing, ask again from `answer.bytes`; `later`: the same when a moment has passed. */
export interface Step {
  readonly answer: Answer;
  readonly need: "nothing" | "subscribe" | "later";
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export function byteLength(text: string): number {
  return encoder.encode(text).length;
}

/** What is known of an answer that the message list shows as unfinished. */
export function startAnswer(generationId: string, text = ""): Answer {
  return {
    generationId,
    phase: text ? "running" : "queued",
    epoch: 0,
    text,
    bytes: byteLength(text),
    queue: null,
    usage: null,
    error: null,
  };
}

/** An answer that another server took up after its end had been told: it goes on from what is held. */
export function revived(answer: Answer): Answer {
  if (answer.phase !== "interrupted") return answer;
  return { ...answer, phase: "running", error: null };
}

export function isLive(answer: Answer): boolean {
  return answer.phase === "queued" || answer.phase === "running";
}

/**
 * The next state. The text only ever grows by the bytes that follow those held, whatever
 * arrives twice, late or with a hole before it; only `resync` replaces it.
 */
export function applyFrame(answer: Answer, frame: AnswerFrame): Step {
  switch (frame.type) {
    case "resync":
      return settled({
        ...answer,
        phase: "running",
        epoch: frame.epoch,
        text: frame.text,
        bytes: byteLength(frame.text),
        queue: null,
        error: null,
      });
    case "queued":
      if (answer.phase !== "queued") return settled(answer);
      return settled({
        ...answer,
        queue: { position: frame.position, etaMs: frame.eta_ms },
      });
    case "delta":
      return applyDelta(answer, frame);
    case "done":
      return applyDone(answer, frame);
    case "interrupted":
      if (!isLive(answer)) return settled(answer);
      // It has not ended: whoever has the stores next goes on with it.
      if (frame.status === "running") return { answer, need: "later" };
      return settled({
        ...answer,
        phase: frame.status === "failed" ? "failed" : "interrupted",
        queue: null,
        error: { code: frame.reason, message: frame.message ?? "" },
      });
  }
}

function applyDelta(answer: Answer, frame: Extract<AnswerFrame, { type: "delta" }>): Step {
  // A finished answer stays finished, and an owner that lost its lease is not believed.
  if (!isLive(answer) || frame.epoch < answer.epoch) return settled(answer);
  if (frame.offset > answer.bytes) return { answer, need: "subscribe" };
  const incoming = encoder.encode(frame.text);
  const known = answer.bytes - frame.offset;
  if (known >= incoming.length) return settled({ ...answer, epoch: frame.epoch });
  const fresh = known === 0 ? frame.text : tailFrom(incoming, known);
  // The seam falls inside a character: what is held cannot be a prefix of this log.
  if (fresh === null) return { answer, need: "subscribe" };
  return settled({
    ...answer,
    phase: "running",
    epoch: frame.epoch,
    text: answer.text + fresh,
    bytes: frame.offset + incoming.length,
    queue: null,
  });
}

function applyDone(answer: Answer, frame: Extract<AnswerFrame, { type: "done" }>): Step {
  if (!isLive(answer)) return settled(answer);
  if (frame.offset > answer.bytes) return { answer, need: "subscribe" };
  return settled({
    ...answer,
    phase: frame.status === "stopped" ? "stopped" : "done",
    queue: null,
    usage: frame.usage,
  });
}

function tailFrom(bytes: Uint8Array, start: number): string | null {
  try {
    return decoder.decode(bytes.subarray(start));
  } catch {
    return null;
  }
}

function settled(answer: Answer): Step {
  return { answer, need: "nothing" };
}
