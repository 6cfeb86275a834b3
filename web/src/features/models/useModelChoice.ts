import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { putConversation } from "../../api/cache";
import { unwrap } from "../../api/client";
import { conversationQuery, modelsQuery } from "../../api/queries";
import { useServices } from "../../api/services";
import type { Model } from "../../api/types";

const KEY = "jarvis.model";

function remembered(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

/**
 * Which model answers: the conversation's own, else the last one chosen here, else the server's
 * default. A model that no node offers any more is passed over.
 */
export function chosenModel(
  models: readonly Model[],
  conversationModel: string | null | undefined,
  last: string | null,
): Model | null {
  const usable = models.filter((model) => model.capabilities.includes("completion"));
  const named = (name: string | null | undefined) => usable.find((model) => model.name === name);
  return (
    named(conversationModel) ??
    named(last) ??
    usable.find((model) => model.default) ??
    usable[0] ??
    null
  );
}

export function useModelChoice(conversationId: string | null) {
  const { api } = useServices();
  const client = useQueryClient();
  const [last, setLast] = useState(remembered);
  const models = useQuery(modelsQuery(api));
  const conversation = useQuery({
    ...conversationQuery(api, conversationId ?? ""),
    enabled: conversationId !== null,
  });
  const all = models.data ?? [];
  const model = chosenModel(all, conversationId === null ? null : conversation.data?.model, last);

  const choose = (name: string) => {
    setLast(name);
    try {
      localStorage.setItem(KEY, name);
    } catch {
      // Kept for this visit only.
    }
    if (conversationId === null) return;
    const params = { path: { id: conversationId } };
    unwrap(api.PATCH("/api/v1/conversations/{id}", { params, body: { model: name } })).then(
      (saved) => putConversation(client, saved),
      () => {}, // The next question names the model itself.
    );
  };
  return { models: all, model, choose, failed: models.isError, loading: models.isPending };
}
