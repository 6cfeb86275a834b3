import { useInfiniteQuery, useMutation, useQueryClient } from "@tanstack/react-query";
import { useEffect, useMemo } from "react";
import { dropConversation, putConversation } from "../../api/cache";
import { unwrap } from "../../api/client";
import { conversationsQuery, keys } from "../../api/queries";
import { useServices } from "../../api/services";
import type { Conversation } from "../../api/types";
import { matchesTitle } from "./groups";

/** The list, filtered by `search`; while something is searched, every page is brought in. */
export function useConversations(search: string) {
  const { api } = useServices();
  const client = useQueryClient();
  const list = useInfiniteQuery(conversationsQuery(api));
  const { hasNextPage, isFetchingNextPage, isFetchNextPageError, fetchNextPage } = list;
  const searching = search.trim() !== "";
  useEffect(() => {
    if (searching && hasNextPage && !isFetchingNextPage && !isFetchNextPageError) {
      void fetchNextPage();
    }
  }, [searching, hasNextPage, isFetchingNextPage, isFetchNextPageError, fetchNextPage]);

  const items = useMemo(() => {
    const all = list.data?.pages.flatMap((page) => page.items) ?? [];
    return searching ? all.filter((each) => matchesTitle(each.title, search)) : all;
  }, [list.data, searching, search]);

  const refresh = () => client.invalidateQueries({ queryKey: keys.conversations });
  const rename = useMutation({
    mutationFn: ({ id, title }: { id: string; title: string }) =>
      unwrap(
        api.PATCH("/api/v1/conversations/{id}", { params: { path: { id } }, body: { title } }),
      ),
    onSuccess: (saved) => putConversation(client, saved),
    onError: refresh,
  });
  const remove = useMutation({
    mutationFn: (conversation: Conversation) =>
      unwrap(
        api.DELETE("/api/v1/conversations/{id}", { params: { path: { id: conversation.id } } }),
      ),
    onSuccess: (_, conversation) => dropConversation(client, conversation.id),
    onError: refresh,
  });
  return { list, items, searching, rename, remove };
}
