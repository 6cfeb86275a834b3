const PREFIX = "jarvis.draft.";

/** What was typed and not sent, per conversation, for as long as the tab lives. */
export function readDraft(conversationId: string | null): string {
  try {
    return sessionStorage.getItem(PREFIX + (conversationId ?? "new")) ?? "";
  } catch {
    return "";
  }
}

export function writeDraft(conversationId: string | null, text: string): void {
  try {
    const key = PREFIX + (conversationId ?? "new");
    if (text) sessionStorage.setItem(key, text);
    else sessionStorage.removeItem(key);
  } catch {
    // A draft that is not kept is no reason to disturb.
  }
}
