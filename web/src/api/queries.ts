import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { type Api, unwrap } from "./client";
import type { Message, Status } from "./types";

const PAGE = 50;
const MESSAGE_PAGE = 200;
const STATUS_EVERY_MS = 30_000;
const STATUS_WHEN_DOWN_MS = 5_000;

export const keys = {
  instance: ["instance"] as const,
  me: ["me"] as const,
  models: ["models"] as const,
  invitations: ["invitations"] as const,
  status: ["status"] as const,
  conversations: ["conversations"] as const,
  conversation: (id: string) => ["conversation", id] as const,
  messages: (id: string) => ["messages", id] as const,
};

export function instanceQuery(api: Api) {
  return queryOptions({
    queryKey: keys.instance,
    queryFn: () => unwrap(api.GET("/api/v1/instance")),
  });
}

export function meQuery(api: Api) {
  return queryOptions({
    queryKey: keys.me,
    queryFn: () => unwrap(api.GET("/api/v1/me")),
    staleTime: Number.POSITIVE_INFINITY,
  });
}

export function modelsQuery(api: Api) {
  return queryOptions({
    queryKey: keys.models,
    queryFn: async () => (await unwrap(api.GET("/api/v1/models"))).items,
    staleTime: 60_000,
  });
}

export function invitationsQuery(api: Api) {
  return queryOptions({
    queryKey: keys.invitations,
    queryFn: async () => (await unwrap(api.GET("/api/v1/invitations"))).items,
  });
}

/** Asked more often while something is down, so that recovery is seen soon. */
export function statusQuery(api: Api) {
  return queryOptions({
    queryKey: keys.status,
    queryFn: () => unwrap(api.GET("/api/v1/status")),
    refetchInterval: (query: { state: { data: Status | undefined } }) =>
      query.state.data?.status === "ok" ? STATUS_EVERY_MS : STATUS_WHEN_DOWN_MS,
  });
}

export function conversationsQuery(api: Api) {
  return infiniteQueryOptions({
    queryKey: keys.conversations,
    queryFn: ({ pageParam }) =>
      unwrap(
        api.GET("/api/v1/conversations", {
          params: { query: { limit: PAGE, ...(pageParam ? { cursor: pageParam } : {}) } },
        }),
      ),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor,
    staleTime: 60_000,
  });
}

export function conversationQuery(api: Api, id: string) {
  return queryOptions({
    queryKey: keys.conversation(id),
    queryFn: () => unwrap(api.GET("/api/v1/conversations/{id}", { params: { path: { id } } })),
    staleTime: Number.POSITIVE_INFINITY,
  });
}

/** The whole tree: branches need it. The socket keeps it current, so it never goes stale by time. */
export function messagesQuery(api: Api, id: string) {
  return queryOptions({
    queryKey: keys.messages(id),
    queryFn: async () => {
      const messages: Message[] = [];
      let cursor: string | null = null;
      do {
        const query: { limit: number; cursor?: string } = { limit: MESSAGE_PAGE };
        if (cursor) query.cursor = cursor;
        const page: { items: Message[]; next_cursor?: string | null } = await unwrap(
          api.GET("/api/v1/conversations/{id}/messages", { params: { path: { id }, query } }),
        );
        messages.push(...page.items);
        cursor = page.next_cursor ?? null;
      } while (cursor);
      return messages;
    },
    staleTime: Number.POSITIVE_INFINITY,
  });
}
