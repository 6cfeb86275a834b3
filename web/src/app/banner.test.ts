import { describe, expect, it } from "vitest";
import type { Status } from "../api/types";
import { worstTrouble } from "./banner";

type Component = Status["components"][number];
const component = (name: string, status: Component["status"], detail?: string): Component =>
  detail === undefined ? { name, status } : { name, status, detail };
const health = (...components: Component[]) => ({
  online: true,
  connection: "ready" as const,
  status: { status: "degraded" as const, components },
  statusFailed: false,
});

describe("the banner", () => {
  it("says nothing when all is well", () => {
    const fine = health(component("store", "ok"), component("node:embedded", "ok"));
    expect(worstTrouble(fine)).toBeNull();
  });

  it("names the cause before its consequences", () => {
    const down = health(component("node:embedded", "down"));
    expect(worstTrouble({ ...down, online: false })?.key).toBe("offline");
    expect(worstTrouble({ ...down, connection: "waiting" })?.key).toBe("reconnecting");
    expect(worstTrouble(down)).toMatchObject({ key: "nodesDown", words: "embedded" });
  });

  it("tells one node down from all of them", () => {
    const some = health(component("node:a", "down"), component("node:b", "ok"));
    expect(worstTrouble(some)).toMatchObject({ key: "nodeDown", words: "a" });
  });

  it("recognises a full disk", () => {
    expect(worstTrouble(health(component("store", "down", "disk is full")))?.key).toBe(
      "storageFull",
    );
    expect(worstTrouble(health(component("store", "down", "locked")))?.key).toBe("storeDown");
  });
});
