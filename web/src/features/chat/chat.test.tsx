import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { act, render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import i18next from "i18next";
import { initReactI18next } from "react-i18next";
import { beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import type { Api } from "../../api/client";
import { keys } from "../../api/queries";
import { ServicesProvider } from "../../api/services";
import type { Session } from "../../api/session";
import { ChatSocket, type WireSocket } from "../../api/socket";
import type { Conversation, Message } from "../../api/types";
import en from "../../app/i18n/en.json";
import { Chat } from "./Chat";
import { ChatProvider } from "./context";
import { ChatController } from "./controller";
import * as blocks from "./markdown/blocks";

class Wire implements WireSocket {
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  sent: Record<string, unknown>[] = [];
  send(text: string) {
    this.sent.push(JSON.parse(text));
  }
  close() {}
  say(frame: object) {
    act(() => this.onmessage?.({ data: JSON.stringify(frame) }));
  }
}

const saved = (id: string, parent_id: string | null, content: string): Message => ({
  id,
  conversation_id: "c",
  parent_id,
  role: id.startsWith("u") ? "user" : "assistant",
  content,
  created_at: "",
  generation: id.startsWith("u")
    ? null
    : { id: `g-${id}`, status: "done", model: "m", usage: null, error: null },
});

beforeAll(async () => {
  await i18next.use(initReactI18next).init({
    lng: "en",
    resources: { en: { translation: en } },
    interpolation: { escapeValue: false },
  });
});

beforeEach(() => {
  sessionStorage.clear();
  vi.stubGlobal("matchMedia", () => ({ matches: false }));
  vi.stubGlobal(
    "ResizeObserver",
    class {
      observe() {}
      disconnect() {}
    },
  );
  // Frames are drawn at once: what is drawn together is another test's matter.
  vi.stubGlobal("requestAnimationFrame", (run: () => void) => {
    run();
    return 0;
  });
});

async function open(conversationId: string | null, messages: Message[] = []) {
  const client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  const wire = new Wire();
  const socket = new ChatSocket({ connect: () => wire, token: async () => "t" });
  const patches: unknown[] = [];
  const api = {
    PATCH: async (_: string, options: { body: { head_message_id: string } }) => {
      patches.push(options.body);
      const known = client.getQueryData<Conversation>(keys.conversation("c"));
      return { data: { ...known, ...options.body }, response: new Response() };
    },
  } as unknown as Api;
  const head = messages.at(-1)?.id ?? null;
  client.setQueryData(keys.conversation("c"), {
    id: "c",
    title: "t",
    model: null,
    head_message_id: head,
    created_at: "",
    updated_at: "",
  });
  client.setQueryData(keys.messages("c"), messages);
  const chat = new ChatController(socket, client, api);
  const onCreated = vi.fn();
  render(
    <QueryClientProvider client={client}>
      <ServicesProvider services={{ api, session: {} as Session, socket }}>
        <ChatProvider chat={chat}>
          <Chat conversationId={conversationId} model="m" onCreated={onCreated} footer={null} />
        </ChatProvider>
      </ServicesProvider>
    </QueryClientProvider>,
  );
  socket.start();
  await act(async () => {});
  wire.onopen?.();
  wire.say({ type: "ready", user_id: "u", expires_at: "" });
  const accept = (userId: string, assistantId: string) => {
    const id = wire.sent.at(-1)?.["id"];
    wire.say({
      type: "accepted",
      id,
      conversation_id: "c",
      message_id: userId,
      assistant_message_id: assistantId,
      generation_id: "g",
    });
  };
  const delta = (offset: number, text: string) =>
    wire.say({ type: "delta", generation_id: "g", epoch: 1, offset, text });
  const done = (offset: number, status = "done") =>
    wire.say({ type: "done", generation_id: "g", offset, usage: null, status });
  return { wire, accept, delta, done, onCreated, patches, client, chat, socket };
}

describe("the chat", () => {
  it("asks, shows the question at once, streams the answer and announces it", async () => {
    const user = userEvent.setup();
    const { wire, accept, delta, done, onCreated } = await open(null);
    await user.type(screen.getByRole("textbox"), "Hello{Enter}");
    expect(wire.sent.at(-1)).toMatchObject({ type: "send", conversation_id: null, model: "m" });
    expect(wire.sent.at(-1)).not.toHaveProperty("parent_id");
    expect(screen.getByText("Hello")).toBeTruthy();
    accept("u1", "a1");
    await waitFor(() => expect(onCreated).toHaveBeenCalledWith("c"));
    delta(0, "Hi");
    done(2);
  });

  it("continues below the last message, follows the answer, and reads it out when whole", async () => {
    const user = userEvent.setup();
    const { wire, accept, delta, done } = await open("c", [
      saved("u0", null, "Before"),
      saved("a0", "u0", "Earlier"),
    ]);
    await user.type(screen.getByRole("textbox"), "More{Enter}");
    expect(wire.sent.at(-1)).toMatchObject({ conversation_id: "c", parent_id: "a0" });
    accept("u1", "a1");
    await screen.findByRole("button", { name: "Stop answering" });
    delta(0, "Été ");
    delta(0, "Été ");
    delta(6, "fini");
    const answer = screen.getAllByTestId("message-assistant").at(-1);
    expect(answer?.textContent).toContain("Été fini");
    expect(answer?.getAttribute("aria-busy")).toBe("true");
    done(10);
    await waitFor(() => expect(answer?.getAttribute("data-status")).toBe("done"));
    expect(screen.getByTestId("announcer").textContent).toBe("Jarvis answered: Été fini");
    expect(screen.getByRole("button", { name: "Send" })).toBeTruthy();
  });

  it("draws only the growing message again", async () => {
    const user = userEvent.setup();
    const { accept, delta } = await open("c", [
      saved("u0", null, "Before"),
      saved("a0", "u0", "Finished long ago"),
    ]);
    await user.type(screen.getByRole("textbox"), "More{Enter}");
    accept("u1", "a1");
    await screen.findByRole("button", { name: "Stop answering" });
    const parse = vi.spyOn(blocks, "parseBlocks");
    let at = 0;
    for (const word of ["one ", "two ", "three "]) {
      delta(at, word);
      at += word.length;
    }
    const parsed = parse.mock.calls.map(([text]) => text);
    expect(parsed).toContain("one two three ");
    expect(parsed).not.toContain("Finished long ago");
    parse.mockRestore();
  });

  it("stops on request and keeps what was written", async () => {
    const user = userEvent.setup();
    const { wire, accept, delta, done } = await open("c", []);
    await user.type(screen.getByRole("textbox"), "Go{Enter}");
    accept("u1", "a1");
    delta(0, "Part");
    await user.click(await screen.findByRole("button", { name: "Stop answering" }));
    expect(wire.sent.at(-1)).toEqual({ type: "cancel", generation_id: "g" });
    done(4, "stopped");
    await screen.findByText("Stopped by you.");
    expect(screen.getByText("Part")).toBeTruthy();
  });

  it("gives a refused question back, with the reason", async () => {
    const user = userEvent.setup();
    const { wire } = await open("c", []);
    await user.type(screen.getByRole("textbox"), "Keep me{Enter}");
    const id = wire.sent.at(-1)?.["id"];
    wire.say({ type: "error", id, code: "storage_full", message: "disk" });
    expect((await screen.findByRole("alert")).textContent).toContain("The storage is full");
    expect(screen.getByRole<HTMLTextAreaElement>("textbox").value).toBe("Keep me");
  });

  it("gives a refused edit back too", async () => {
    const user = userEvent.setup();
    const { wire } = await open("c", [saved("u0", null, "First"), saved("a0", "u0", "Old")]);
    await user.click(screen.getByRole("button", { name: "Edit message" }));
    const field = screen.getByRole("textbox", { name: "Edited message" });
    await user.clear(field);
    await user.type(field, "Second{Enter}");
    const id = wire.sent.at(-1)?.["id"];
    wire.say({ type: "error", id, code: "storage_full", message: "disk" });
    await screen.findByRole("alert");
    expect(screen.getByRole<HTMLTextAreaElement>("textbox").value).toBe("Second");
  });

  it("sends after a reload what the server had not taken, under the same id", async () => {
    const frame = { type: "send", id: "q1", conversation_id: null, content: "Still here?" };
    sessionStorage.setItem("jarvis.outbox", JSON.stringify([frame]));
    const { wire, accept, onCreated } = await open(null);
    expect(wire.sent.filter((each) => each["type"] === "send")).toEqual([frame]);
    expect(screen.getByText("Still here?")).toBeTruthy();
    accept("u1", "a1");
    await waitFor(() => expect(onCreated).toHaveBeenCalledWith("c"));
    expect(sessionStorage.getItem("jarvis.outbox")).toBeNull();
  });

  it("keeps nothing of what was on its way for whoever signs in next", async () => {
    const user = userEvent.setup();
    const { chat, socket } = await open("c", []);
    await user.type(screen.getByRole("textbox"), "Secret{Enter}");
    expect(sessionStorage.getItem("jarvis.outbox")).toContain("Secret");
    await act(async () => {
      socket.stop();
      chat.clear();
    });
    expect(sessionStorage.length).toBe(0);
  });

  it("edits a question into a branch and goes back to the old one", async () => {
    const user = userEvent.setup();
    const { wire, accept, done, patches } = await open("c", [
      saved("u0", null, "First"),
      saved("a0", "u0", "Old answer"),
    ]);
    await user.click(screen.getByRole("button", { name: "Edit message" }));
    const field = screen.getByRole("textbox", { name: "Edited message" });
    await user.clear(field);
    await user.type(field, "Second{Enter}");
    expect(wire.sent.at(-1)).toMatchObject({ content: "Second", parent_id: null });
    accept("u1", "a1");
    done(0);
    await screen.findByText("2/2");
    expect(screen.queryByText("Old answer")).toBeNull();
    await user.click(screen.getByRole("button", { name: "Previous version" }));
    await screen.findByText("Old answer");
    expect(patches).toEqual([{ head_message_id: "a0" }]);
  });

  it("answers again from the same question", async () => {
    const user = userEvent.setup();
    const { wire } = await open("c", [saved("u0", null, "Q"), saved("a0", "u0", "A")]);
    await user.click(screen.getByRole("button", { name: "Answer again" }));
    expect(wire.sent.at(-1)).toMatchObject({ type: "regenerate", parent_id: "u0" });
  });

  it("does not send what is empty", async () => {
    const user = userEvent.setup();
    const { wire } = await open("c", []);
    await user.type(screen.getByRole("textbox"), "   {Enter}");
    await user.type(screen.getByRole("textbox"), "a{Shift>}{Enter}{/Shift}b");
    expect(wire.sent.filter((frame) => frame["type"] === "send")).toEqual([]);
    expect(screen.getByRole<HTMLTextAreaElement>("textbox").value).toContain("a\nb");
  });

  it("opens a long chat at its end and shows the rest on request", async () => {
    const user = userEvent.setup();
    const messages = Array.from({ length: 300 }, (_, index) =>
      saved(
        `${index % 2 ? "a" : "u"}${index}`,
        index ? `${index % 2 ? "u" : "a"}${index - 1}` : null,
        `Message ${index}`,
      ),
    );
    await open("c", messages);
    expect(screen.getByText("Message 299")).toBeTruthy();
    expect(screen.queryByText("Message 0")).toBeNull();
    expect(screen.getAllByRole("article").length).toBeLessThan(60);
    await user.click(screen.getByRole("button", { name: "Show 260 earlier messages" }));
    expect(screen.getAllByRole("article").length).toBeGreaterThan(100);
  });
});
