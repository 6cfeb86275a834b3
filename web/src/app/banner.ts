import type { Connection } from "../api/socket";
import type { Status } from "../api/types";

export interface Health {
  online: boolean;
  connection: Connection;
  status: Status | undefined;
  statusFailed: boolean;
}

export interface Trouble {
  key:
    | "offline"
    | "reconnecting"
    | "nodesDown"
    | "nodeDown"
    | "storeDown"
    | "storageFull"
    | "degraded"
    | "statusFailed";
  /** Names of components, or the store's own words. */
  words: string;
  bad: boolean;
}

const NODE = /^(node|engine)\b/;

/** The one thing worth saying: the cause before its consequences. */
export function worstTrouble({ online, connection, status, statusFailed }: Health): Trouble | null {
  if (!online) return { key: "offline", words: "", bad: true };
  if (connection !== "ready") return { key: "reconnecting", words: "", bad: true };
  if (statusFailed && !status) return { key: "statusFailed", words: "", bad: false };
  const troubled = status?.components.filter((each) => each.status !== "ok") ?? [];
  const store = troubled.find((each) => each.name === "store" || each.name === "answers");
  if (store) {
    const detail = store.detail ?? store.status;
    const full = /full|no space/i.test(detail);
    return { key: full ? "storageFull" : "storeDown", words: detail, bad: true };
  }
  const nodes = status?.components.filter((each) => NODE.test(each.name)) ?? [];
  const down = nodes.filter((each) => each.status === "down");
  const names = (list: typeof troubled) =>
    list.map((each) => each.name.replace(/^node[:\s/]+/, "")).join(", ");
  if (down.length > 0 && down.length === nodes.length) {
    return { key: "nodesDown", words: names(down), bad: true };
  }
  if (down.length > 0) return { key: "nodeDown", words: names(down), bad: false };
  if (troubled.length > 0) return { key: "degraded", words: names(troubled), bad: false };
  return null;
}
