import type { Conversation } from "../../api/types";

export type Group =
  | { kind: "today" | "yesterday" | "week" | "month"; items: Conversation[] }
  | { kind: "older"; year: number; month: number; items: Conversation[] };

const DAY_MS = 86_400_000;

/** Conversations by age, newest first, in the reader's own days. Each group keeps the given order. */
export function groupByDate(conversations: readonly Conversation[], now: Date): Group[] {
  const groups: Group[] = [];
  for (const conversation of conversations) {
    const group = groupOf(new Date(conversation.updated_at), now);
    const last = groups.at(-1);
    if (last && sameGroup(last, group)) last.items.push(conversation);
    else groups.push({ ...group, items: [conversation] });
  }
  return groups;
}

function groupOf(date: Date, now: Date): Group {
  const days = Math.round((startOfDay(now) - startOfDay(date)) / DAY_MS);
  const items: Conversation[] = [];
  if (days <= 0) return { kind: "today", items };
  if (days === 1) return { kind: "yesterday", items };
  if (days <= 7) return { kind: "week", items };
  if (days <= 30) return { kind: "month", items };
  return { kind: "older", year: date.getFullYear(), month: date.getMonth(), items };
}

function startOfDay(date: Date): number {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}

function sameGroup(a: Group, b: Group): boolean {
  if (a.kind !== "older" || b.kind !== "older") return a.kind === b.kind;
  return a.year === b.year && a.month === b.month;
}

/** Matches without regard to case or accents: "resume" finds "Résumé". */
export function matchesTitle(title: string, query: string): boolean {
  return fold(title).includes(fold(query.trim()));
}

function fold(text: string): string {
  return text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
}
