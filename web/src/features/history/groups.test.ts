import { describe, expect, it } from "vitest";
import type { Conversation } from "../../api/types";
import { groupByDate, matchesTitle } from "./groups";

const now = new Date(2026, 10, 22, 0, 30);
const at = (date: Date): Conversation => ({
  id: date.toISOString(),
  title: "",
  model: null,
  head_message_id: null,
  created_at: date.toISOString(),
  updated_at: date.toISOString(),
});

describe("conversations by date", () => {
  it("counts calendar days, not hours", () => {
    const kinds = (date: Date) => groupByDate([at(date)], now)[0]?.kind;
    expect(kinds(new Date(2026, 10, 22, 0, 10))).toBe("today");
    expect(kinds(new Date(2026, 10, 21, 23, 50))).toBe("yesterday");
    expect(kinds(new Date(2026, 10, 15, 1, 0))).toBe("week");
    expect(kinds(new Date(2026, 9, 23, 1, 0))).toBe("month");
    expect(kinds(new Date(2026, 9, 22, 1, 0))).toBe("older");
    expect(kinds(new Date(2026, 10, 23, 1, 0))).toBe("today");
  });

  it("splits older ones by month and keeps the order", () => {
    const dates = [
      new Date(2026, 10, 22),
      new Date(2026, 7, 20),
      new Date(2026, 7, 2),
      new Date(2025, 7, 2),
    ];
    const groups = groupByDate(dates.map(at), now);
    expect(groups.map((group) => group.items.length)).toEqual([1, 2, 1]);
  });
});

describe("searching titles", () => {
  it("ignores case and accents", () => {
    expect(matchesTitle("Mon Résumé", "resume")).toBe(true);
    expect(matchesTitle("Mon Resume", "RÉSUMÉ ")).toBe(true);
    expect(matchesTitle("Other", "resume")).toBe(false);
    expect(matchesTitle("Anything", " ")).toBe(true);
  });
});
