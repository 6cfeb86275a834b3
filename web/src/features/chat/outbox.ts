import type { RegenerateFrame, SendFrame } from "../../api/protocol";

type Frame = SendFrame | RegenerateFrame;

const KEY = "jarvis.outbox";

/**
 * Frames that the server has neither taken nor refused, oldest first. They outlive a reload of the page; their `id`
 * makes a repetition harmless.
 */
export function readOutbox(): Frame[] {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
  } catch {
    return [];
  }
}

export function keepInOutbox(frame: Frame): void {
  write([...without(frame.id), frame]);
}

export function dropFromOutbox(id: string): void {
  write(without(id));
}

/** For whoever signs in next on this machine. */
export function forgetOutbox(): void {
  write([]);
}

function without(id: string): Frame[] {
  return readOutbox().filter((frame) => frame.id !== id);
}

function write(frames: Frame[]): void {
  try {
    if (frames.length) sessionStorage.setItem(KEY, JSON.stringify(frames));
    else sessionStorage.removeItem(KEY);
  } catch {
    // They are still sent, as long as the page lives.
  }
}
