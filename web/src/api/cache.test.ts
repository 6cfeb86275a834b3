import { QueryClient, QueryObserver } from "@tanstack/react-query";
import { describe, expect, it } from "vitest";
import { addMessages, patchMessage, placed, supersedeLoads } from "./cache";
import { keys } from "./queries";
import type { Conversation, Message } from "./types";

const conversation = (id: string, updated_at: string, title = id): Conversation => ({
  id,
  title,
  model: null,
  head_message_id: null,
  created_at: updated_at,
  updated_at,
});
const pages = (more: boolean, ...lists: Conversation[][]) => ({
  pages: lists.map((items, index) => ({
    items,
    next_cursor: more || index < lists.length - 1 ? String(index) : null,
  })),
  pageParams: lists.map((): string | null => null),
});
const titles = (data: ReturnType<typeof pages>) =>
  data.pages.map((page) => page.items.map((each) => each.title).join(""));

describe("the conversation list", () => {
  const list = pages(
    false,
    [conversation("c", "5"), conversation("b", "4")],
    [conversation("a", "2")],
  );

  it("puts what is newest first, and each once", () => {
    expect(titles(placed(list, conversation("n", "9")))).toEqual(["ncb", "a"]);
    expect(titles(placed(list, conversation("a", "9", "A")))).toEqual(["Acb", ""]);
  });

  it("keeps the place of one that was only renamed", () => {
    expect(titles(placed(list, conversation("b", "4", "B")))).toEqual(["cB", "a"]);
    expect(titles(placed(list, conversation("a", "2", "A")))).toEqual(["cb", "A"]);
    const open = pages(true, [conversation("c", "5")]);
    expect(titles(placed(open, conversation("c", "5", "C")))).toEqual(["C"]);
  });

  it("leaves what belongs to a page not loaded yet to that page", () => {
    const open = pages(true, [conversation("c", "5")]);
    expect(titles(placed(open, conversation("old", "1")))).toEqual(["c"]);
    expect(titles(placed(pages(false, []), conversation("new", "1")))).toEqual(["new"]);
  });
});

describe("a load that began before a change", () => {
  it("does not take the change back", async () => {
    const client = new QueryClient();
    const queryKey = keys.messages("c");
    const answers: ((list: string[]) => void)[] = [];
    const settle = () => new Promise((resolve) => setTimeout(resolve));
    const load = () => new Promise<string[]>((resolve) => answers.push(resolve));
    const observer = new QueryObserver(client, { queryKey, queryFn: load });
    const stop = observer.subscribe(() => {});
    answers[0]?.(["old"]);
    await settle();
    void client.invalidateQueries({ queryKey });
    client.setQueryData(queryKey, ["old", "new"]);
    supersedeLoads(client, "c");
    answers[1]?.(["old"]);
    await settle();
    expect(client.getQueryData(queryKey)).toEqual(["old", "new"]);
    answers[2]?.(["old", "new", "from elsewhere"]);
    await settle();
    expect(client.getQueryData(queryKey)).toEqual(["old", "new", "from elsewhere"]);
    stop();
  });
});

describe("the messages", () => {
  const message = (id: string): Message => ({
    id,
    conversation_id: "c",
    parent_id: null,
    role: "user",
    content: id,
    created_at: "",
    generation: null,
  });

  it("are added once, and only the changed one gets a new identity", () => {
    const client = new QueryClient();
    const [one, two] = [message("1"), message("2")];
    addMessages(client, "c", [one]);
    addMessages(client, "c", [{ ...one, content: "again" }, two]);
    patchMessage(
      client,
      "c",
      (each) => each.id === "2",
      (each) => ({ ...each, content: "changed" }),
    );
    const stored = client.getQueryData<Message[]>(keys.messages("c"));
    expect(stored?.map((each) => each.content)).toEqual(["1", "changed"]);
    expect(stored?.[0]).toBe(one);
  });
});
