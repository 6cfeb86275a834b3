import type { Message } from "../../api/types";

/** A conversation's messages: every edit and every further answer is a branch. */
export interface MessageTree {
  readonly byId: ReadonlyMap<string, Message>;
  /** Children in order of creation; roots under null. */
  readonly children: ReadonlyMap<string | null, readonly string[]>;
}

export interface Siblings {
  /** From 1. */
  readonly position: number;
  readonly count: number;
  readonly previous: string | null;
  readonly next: string | null;
}

/** Builds the tree; a message whose parent is unknown counts as a root rather than vanishing. */
export function buildTree(messages: readonly Message[]): MessageTree {
  const byId = new Map(messages.map((message) => [message.id, message]));
  const children = new Map<string | null, string[]>();
  for (const message of byId.values()) {
    const known = message.parent_id !== null && byId.has(message.parent_id);
    const parent = known ? message.parent_id : null;
    const list = children.get(parent);
    if (list) list.push(message.id);
    else children.set(parent, [message.id]);
  }
  return { byId, children };
}

/** From the root down to `head`; an unknown or absent head means the newest branch. */
export function pathTo(tree: MessageTree, head: string | null): Message[] {
  const start = head !== null && tree.byId.has(head) ? head : newestLeaf(tree, null);
  const path: Message[] = [];
  const seen = new Set<string>();
  let at = start === null ? undefined : tree.byId.get(start);
  while (at && !seen.has(at.id)) {
    seen.add(at.id);
    path.push(at);
    at = at.parent_id === null ? undefined : tree.byId.get(at.parent_id);
  }
  return path.reverse();
}

export function siblingsOf(tree: MessageTree, message: Message): Siblings {
  const known = message.parent_id !== null && tree.byId.has(message.parent_id);
  const all = tree.children.get(known ? message.parent_id : null) ?? [];
  const index = all.indexOf(message.id);
  return {
    position: index + 1,
    count: all.length,
    previous: all[index - 1] ?? null,
    next: all[index + 1] ?? null,
  };
}

/** The end of the newest branch below `from`: where choosing a sibling leads. */
export function newestLeaf(tree: MessageTree, from: string | null): string | null {
  let at = from;
  for (;;) {
    const next = tree.children.get(at)?.at(-1);
    if (next === undefined) return at;
    at = next;
  }
}
