const PREFIX = "jarvis.draft.";

/** For whoever signs in next on this machine. */
export function forgetDrafts(): void {
  try {
    for (const key of Object.keys(sessionStorage)) {
      if (key.startsWith(PREFIX)) sessionStorage.removeItem(key);
    }
  } catch {
    // Then there were none.
  }
}

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
