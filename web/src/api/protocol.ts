import type { Conversation, Usage } from "./types";

/** Frames of `/ws`. Offsets count bytes of UTF-8, never characters. */
export type ClientFrame =
  | { type: "auth"; access_token: string }
  | SendFrame
  | RegenerateFrame
  /** `epoch` of the last bytes held; 0 if they came otherwise. It tells whether they stand after a change of owner. */
  | { type: "subscribe"; generation_id: string; offset: number; epoch: number }
  | { type: "unsubscribe"; generation_id: string }
  | { type: "cancel"; generation_id: string };

/** `id` is made here and is also the idempotency key: a repeated frame starts nothing twice. */
export interface SendFrame {
  type: "send";
  id: string;
  conversation_id: string | null;
  content: string;
  /** Absent: the conversation's head. Null: a new root. */
  parent_id?: string | null;
  model?: string;
}

export interface RegenerateFrame {
  type: "regenerate";
  id: string;
  conversation_id: string;
  /** The user message to answer again. */
  parent_id: string;
  model?: string;
}

export interface Accepted {
  type: "accepted";
  id: string;
  conversation_id: string;
  message_id: string;
  assistant_message_id: string;
  generation_id: string;
}

export type AnswerFrame =
  | { type: "queued"; generation_id: string; position: number; eta_ms: number | null }
  | { type: "delta"; generation_id: string; epoch: number; offset: number; text: string }
  | { type: "done"; generation_id: string; offset: number; usage: Usage | null; status: string }
  | InterruptedFrame
  | { type: "resync"; generation_id: string; epoch: number; offset: number; text: string };

export type ServerFrame =
  | { type: "ready"; user_id: string; expires_at: string }
  | Accepted
  | AnswerFrame
  | { type: "conversation"; conversation: Conversation }
  | { type: "conversation_deleted"; id: string }
  /** More has changed than was told. */
  | { type: "conversations_changed" }
  | { type: "error"; id?: string | null; generation_id?: string; code: string; message: string };

/** The text so far is kept. */
export interface InterruptedFrame {
  type: "interrupted";
  generation_id: string;
  /** A stable code. */
  reason: string;
  /** A sentence for those who do not know the code. */
  message?: string;
  /** `running`: it has not ended, but could not be followed or kept to its end just now. */
  status?: "running" | "interrupted" | "failed";
}

export const CLOSE_UNAUTHORIZED = 4401;

/** A frame as text, or null for what a newer server may say and we do not know. */
export function parseFrame(text: string): ServerFrame | null {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && "type" in value) return value as ServerFrame;
  } catch {
    // Not JSON: ignored like any unknown frame.
  }
  return null;
}
