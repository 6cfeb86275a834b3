const ALLOWED = new Set(["http:", "https:", "mailto:"]);

/** The address if it is one that may be opened from an answer, else null: no scripts, no local files. */
export function safeHref(href: string): string | null {
  try {
    const url = new URL(href);
    return ALLOWED.has(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}
