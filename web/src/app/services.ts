import { QueryClient } from "@tanstack/react-query";
import { dropConversation, putConversation } from "../api/cache";
import { createApi } from "../api/client";
import { ApiProblem } from "../api/problem";
import { keys } from "../api/queries";
import type { Services } from "../api/services";
import { Session } from "../api/session";
import { ChatSocket, type WireSocket } from "../api/socket";
import type { Conversation, Message } from "../api/types";
import { ChatController } from "../features/chat/controller";

export interface App extends Services {
  readonly client: QueryClient;
  readonly chat: ChatController;
}

const RETRIES = 2;

function socketUrl(): string {
  const scheme = window.location.protocol === "https:" ? "wss:" : "ws:";
  return `${scheme}//${window.location.host}/ws`;
}

/** Everything that lives as long as the page, wired together once. */
export function createApp(): App {
  const session = new Session();
  const api = createApi(session);
  const client = new QueryClient({
    defaultOptions: {
      queries: {
        // A refusal stays a refusal; only what may pass is tried again.
        retry: (count, error) =>
          count < RETRIES && !(error instanceof ApiProblem && error.status < 500),
      },
    },
  });
  const socket = new ChatSocket({
    connect: () => new WebSocket(socketUrl()) as unknown as WireSocket,
    token: (renew) => session.fresh(renew),
  });
  const chat = new ChatController(socket, client, api);
  session.renewed.on((token) => socket.renew(token));
  session.changed.on((state) => {
    if (state === "signed_in") return socket.start();
    socket.stop();
    chat.clear();
    client.clear();
  });
  keepCacheCurrent(socket, client);
  window.addEventListener("online", () => socket.retryNow());
  window.addEventListener("offline", () => socket.lost());
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") socket.retryNow();
  });
  return { api, session, socket, client, chat };
}

/** What the server tells all of a user's pages, and what may have been missed while away. */
function keepCacheCurrent(socket: ChatSocket, client: QueryClient): void {
  let connectedBefore = false;
  socket.frames.on((frame) => {
    if (frame.type === "conversation") receive(client, frame.conversation);
    if (frame.type === "conversation_deleted") dropConversation(client, frame.id);
    if (frame.type === "conversations_changed") readAgain(client);
  });
  socket.changed.on((state) => {
    if (state === "closed") connectedBefore = false;
    if (state !== "ready") return;
    if (connectedBefore) readAgain(client);
    connectedBefore = true;
  });
}

function readAgain(client: QueryClient): void {
  for (const key of ["conversations", "conversation", "messages", "status", "models"]) {
    void client.invalidateQueries({ queryKey: [key] });
  }
}

function receive(client: QueryClient, conversation: Conversation): void {
  putConversation(client, conversation);
  const messages = client.getQueryData<Message[]>(keys.messages(conversation.id));
  const head = conversation.head_message_id;
  // Another page of this user went on with it.
  if (messages && head && !messages.some((message) => message.id === head)) {
    void client.invalidateQueries({ queryKey: keys.messages(conversation.id) });
  }
}
