import { describe, expect, it } from "vitest";
import type { AnswerFrame } from "../../api/protocol";
import { type Answer, applyFrame, byteLength, revived, startAnswer } from "./answer";

const id = "g1";
const delta = (offset: number, text: string, epoch = 1): AnswerFrame => ({
  type: "delta",
  generation_id: id,
  epoch,
  offset,
  text,
});
const done = (offset: number, status = "done"): AnswerFrame => ({
  type: "done",
  generation_id: id,
  offset,
  usage: null,
  status,
});

function run(frames: AnswerFrame[], from: Answer = startAnswer(id)) {
  let answer = from;
  let subscriptions = 0;
  for (const frame of frames) {
    const step = applyFrame(answer, frame);
    answer = step.answer;
    if (step.need === "subscribe") subscriptions += 1;
  }
  return { answer, subscriptions };
}

describe("an answer", () => {
  it("grows by bytes, not by characters", () => {
    const { answer } = run([delta(0, "Été"), delta(5, " 🎉"), delta(10, "!")]);
    expect(answer.text).toBe("Été 🎉!");
    expect(answer.bytes).toBe(11);
    expect(answer.bytes).toBe(byteLength(answer.text));
  });

  it("ignores what it already holds", () => {
    const { answer, subscriptions } = run([delta(0, "abc"), delta(0, "abc"), delta(1, "bc")]);
    expect(answer.text).toBe("abc");
    expect(subscriptions).toBe(0);
  });

  it("takes only the new part of an overlap, across a multi-byte character", () => {
    const { answer } = run([delta(0, "aé"), delta(1, "é🎉b")]);
    expect(answer.text).toBe("aé🎉b");
    expect(answer.bytes).toBe(8);
  });

  it("asks again when the seam falls inside a character", () => {
    const { answer, subscriptions } = run([delta(0, "ab"), delta(1, "éc")]);
    expect(answer.text).toBe("ab");
    expect(subscriptions).toBe(1);
  });

  it("asks again when bytes are missing and shows nothing out of order", () => {
    const { answer, subscriptions } = run([delta(0, "abc"), delta(5, "fg")]);
    expect(answer.text).toBe("abc");
    expect(answer.phase).toBe("running");
    expect(subscriptions).toBe(1);
  });

  it("is not done before its last byte is here", () => {
    const early = run([delta(0, "abc"), done(6)]);
    expect(early.answer.phase).toBe("running");
    expect(early.subscriptions).toBe(1);
    const late = run([delta(3, "def"), done(6)], early.answer);
    expect(late.answer).toMatchObject({ phase: "done", text: "abcdef" });
  });

  it("is replaced whole by a resync and goes on from there", () => {
    const { answer } = run([
      delta(0, "wrong text"),
      { type: "resync", generation_id: id, epoch: 3, offset: 0, text: "déjà" },
      delta(6, " vu", 3),
    ]);
    expect(answer).toMatchObject({ text: "déjà vu", epoch: 3, bytes: 9 });
  });

  it("does not believe an owner of an older epoch", () => {
    const { answer } = run([delta(0, "new", 2), delta(3, " late", 1)]);
    expect(answer.text).toBe("new");
  });

  it("keeps its text when stopped or interrupted, and stays so", () => {
    const stopped = run([delta(0, "abc"), done(3, "stopped"), delta(3, "def")]).answer;
    expect(stopped).toMatchObject({ phase: "stopped", text: "abc" });
    const cut = run([
      delta(0, "abc"),
      { type: "interrupted", generation_id: id, reason: "node_lost" },
    ]).answer;
    expect(cut).toMatchObject({ phase: "interrupted", text: "abc", error: { code: "node_lost" } });
  });

  it("goes on from what it holds when another server takes it up after all", () => {
    const cut = run([
      delta(0, "abc"),
      { type: "interrupted", generation_id: id, reason: "unattended" },
    ]).answer;
    const { answer } = run([delta(3, "def", 2), done(6)], revived(cut));
    expect(answer).toMatchObject({ phase: "done", text: "abcdef", error: null });
    expect(revived(answer)).toBe(answer);
  });

  it("shows its place in the queue only while it waits", () => {
    const queued: AnswerFrame = { type: "queued", generation_id: id, position: 2, eta_ms: 4000 };
    expect(run([queued]).answer.queue).toEqual({ position: 2, etaMs: 4000 });
    expect(run([queued, delta(0, "a"), queued]).answer.queue).toBeNull();
  });

  it("is the same text however the log is cut and repeated", () => {
    const text = "naïve 🎉 — ça marche ✓";
    const whole = new TextEncoder().encode(text);
    const characters = [...text];
    for (let seed = 1; seed < 60; seed++) {
      const frames: AnswerFrame[] = [];
      let at = 0;
      let next = seed;
      while (at < characters.length) {
        next = (next * 1103515245 + 12345) % 2147483648;
        const size = 1 + (next % 4);
        const back = Math.min(at, next % 3);
        const head = characters.slice(0, at - back).join("");
        frames.push(delta(byteLength(head), characters.slice(at - back, at + size).join("")));
        at += size;
      }
      const { answer, subscriptions } = run([...frames, done(whole.length)]);
      expect(answer).toMatchObject({ text, phase: "done" });
      expect(subscriptions).toBe(0);
    }
  });
});
