import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useCallback, useMemo } from "react";
import { putConversation, setHead, supersedeLoads } from "../../api/cache";
import { unwrap } from "../../api/client";
import { conversationQuery, keys, messagesQuery } from "../../api/queries";
import { useServices } from "../../api/services";
import type { Message } from "../../api/types";
import { buildTree, newestLeaf, pathTo } from "./tree";

const NONE: readonly Message[] = [];

/** A conversation's tree and the branch that is shown; empty for one that does not exist yet. */
export function useConversation(id: string | null) {
  const { api } = useServices();
  const client = useQueryClient();
  const enabled = id !== null;
  const conversation = useQuery({ ...conversationQuery(api, id ?? ""), enabled });
  const messages = useQuery({ ...messagesQuery(api, id ?? ""), enabled });
  const all = enabled ? (messages.data ?? NONE) : NONE;
  const tree = useMemo(() => buildTree(all), [all]);
  const head = conversation.data?.head_message_id ?? null;
  const path = useMemo(() => pathTo(tree, head), [tree, head]);

  /** Shows another version, at the end of its newest branch, here and for the next visit. */
  const choose = useCallback(
    async (messageId: string) => {
      const leaf = newestLeaf(tree, messageId);
      if (id === null || leaf === null) return;
      setHead(client, id, leaf);
      const body = { head_message_id: leaf };
      const params = { path: { id } };
      try {
        const saved = await unwrap(api.PATCH("/api/v1/conversations/{id}", { params, body }));
        putConversation(client, saved);
        supersedeLoads(client, id);
      } catch {
        // The choice holds here; the server's word comes back with the next load.
        void client.invalidateQueries({ queryKey: keys.conversation(id), refetchType: "none" });
      }
    },
    [api, client, id, tree],
  );

  const problem = conversation.error ?? messages.error;
  const loading = enabled && (conversation.isPending || messages.isPending) && !problem;
  const retry = useCallback(() => {
    if (id === null) return;
    void client.invalidateQueries({ queryKey: keys.conversation(id) });
    void client.invalidateQueries({ queryKey: keys.messages(id) });
  }, [client, id]);
  return { tree, path, choose, loading, problem, retry };
}
