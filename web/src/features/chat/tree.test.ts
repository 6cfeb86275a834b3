import { describe, expect, it } from "vitest";
import type { Message } from "../../api/types";
import { buildTree, newestLeaf, pathTo, siblingsOf } from "./tree";

function message(id: string, parent_id: string | null): Message {
  return {
    id,
    parent_id,
    conversation_id: "c",
    role: "user",
    content: id,
    created_at: "2026-01-01T00:00:00.000000Z",
    generation: null,
  };
}

// a ── b ── c
//  │    └── d ── e
//  └── f
// g (the first message, edited)
const tree = buildTree([
  message("a", null),
  message("b", "a"),
  message("c", "b"),
  message("d", "b"),
  message("e", "d"),
  message("f", "a"),
  message("g", null),
]);
const ids = (path: Message[]) => path.map((each) => each.id).join("");
const at = (id: string) => tree.byId.get(id) as Message;

describe("the message tree", () => {
  it("walks from the root to the head", () => {
    expect(ids(pathTo(tree, "e"))).toBe("abde");
    expect(ids(pathTo(tree, "b"))).toBe("ab");
  });

  it("falls back to the newest branch without a known head", () => {
    expect(ids(pathTo(tree, null))).toBe("g");
    expect(ids(pathTo(tree, "gone"))).toBe("g");
    expect(pathTo(buildTree([]), null)).toEqual([]);
  });

  it("numbers siblings in order of creation, roots included", () => {
    expect(siblingsOf(tree, at("d"))).toEqual({ position: 2, count: 2, previous: "c", next: null });
    expect(siblingsOf(tree, at("a"))).toEqual({ position: 1, count: 2, previous: null, next: "g" });
    expect(siblingsOf(tree, at("e")).count).toBe(1);
  });

  it("finds the end of the newest branch below a message", () => {
    expect(newestLeaf(tree, "b")).toBe("e");
    expect(newestLeaf(tree, "a")).toBe("f");
    expect(newestLeaf(tree, "g")).toBe("g");
  });

  it("survives an unknown parent and a cycle", () => {
    const orphan = buildTree([message("x", "missing")]);
    expect(ids(pathTo(orphan, "x"))).toBe("x");
    expect(siblingsOf(orphan, orphan.byId.get("x") as Message).count).toBe(1);
    const cycle = buildTree([message("p", "q"), message("q", "p")]);
    expect(ids(pathTo(cycle, "p"))).toBe("qp");
  });
});
