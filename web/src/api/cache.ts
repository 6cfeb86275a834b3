import type { InfiniteData, QueryClient } from "@tanstack/react-query";
import { keys } from "./queries";
import type { Conversation, ConversationPage, Message } from "./types";

type Pages = InfiniteData<ConversationPage, string | null>;

/** A conversation as the server last told it: into its own entry and its place in the list. */
export function putConversation(client: QueryClient, conversation: Conversation): void {
  client.setQueryData(keys.conversation(conversation.id), conversation);
  client.setQueryData<Pages>(keys.conversations, (data) => data && placed(data, conversation));
}

/** The list with `conversation` at its place: newest first, each once. */
export function placed(data: Pages, conversation: Conversation): Pages {
  let waiting: Conversation | null = conversation;
  const last = data.pages.length - 1;
  const pages = data.pages.map((page, index) => {
    const items: Conversation[] = [];
    for (const item of page.items) {
      if (item.id === conversation.id) {
        // Only renamed: it stays where it is, also at the end of what is loaded.
        if (waiting && item.updated_at === waiting.updated_at) {
          items.push(waiting);
          waiting = null;
        }
        continue;
      }
      if (waiting && item.updated_at < waiting.updated_at) {
        items.push(waiting);
        waiting = null;
      }
      items.push(item);
    }
    if (waiting && index === last && page.next_cursor === null) items.push(waiting);
    return { ...page, items };
  });
  return { ...data, pages };
}

export function dropConversation(client: QueryClient, id: string): void {
  client.removeQueries({ queryKey: keys.conversation(id) });
  client.removeQueries({ queryKey: keys.messages(id) });
  client.setQueryData<Pages>(
    keys.conversations,
    (data) =>
      data && {
        ...data,
        pages: data.pages.map((page) => ({
          ...page,
          items: page.items.filter((item) => item.id !== id),
        })),
      },
  );
}

/** Adds messages that are not there yet; those that are stay as they are. */
export function addMessages(client: QueryClient, id: string, added: Message[]): void {
  client.setQueryData<Message[]>(keys.messages(id), (messages = []) => {
    const known = new Set(messages.map((message) => message.id));
    return [...messages, ...added.filter((message) => !known.has(message.id))];
  });
}

/** Changes one message; all others keep their identity, so that only this one renders again. */
export function patchMessage(
  client: QueryClient,
  conversationId: string,
  matches: (message: Message) => boolean,
  change: (message: Message) => Message,
): void {
  client.setQueryData<Message[]>(keys.messages(conversationId), (messages) =>
    messages?.map((message) => (matches(message) ? change(message) : message)),
  );
}

/**
 * After a change made here: a load that began before it may bring the state before it, and must
 * not win. It is begun anew; the server knows of the change by now.
 */
export function supersedeLoads(client: QueryClient, conversationId: string): void {
  for (const queryKey of [keys.messages(conversationId), keys.conversation(conversationId)]) {
    if (client.isFetching({ queryKey, exact: true }) > 0) {
      void client.invalidateQueries({ queryKey, exact: true });
    }
  }
}

export function setHead(client: QueryClient, id: string, head: string): void {
  client.setQueryData<Conversation>(
    keys.conversation(id),
    (conversation) => conversation && { ...conversation, head_message_id: head },
  );
}
