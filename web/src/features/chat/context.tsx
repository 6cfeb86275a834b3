import { createContext, type ReactNode, useContext, useSyncExternalStore } from "react";
import type { Answer, Phase } from "./answer";
import type { ChatController, Outgoing } from "./controller";

const ChatContext = createContext<ChatController | null>(null);

export function ChatProvider(props: { chat: ChatController; children: ReactNode }) {
  return <ChatContext value={props.chat}>{props.children}</ChatContext>;
}

export function useChat(): ChatController {
  const chat = useContext(ChatContext);
  if (!chat) throw new Error("useChat needs a ChatProvider above it");
  return chat;
}

/** The live state of one answer: only its watcher renders again while it grows. */
export function useAnswer(generationId: string): Answer | undefined {
  const { live } = useChat();
  return useSyncExternalStore(
    (notify) => live.watch(generationId, notify),
    () => live.get(generationId),
  );
}

/** Only the phase: whoever does not show the text need not render as it grows. */
export function usePhase(generationId: string): Phase | null {
  const { live } = useChat();
  return useSyncExternalStore(
    (notify) => live.watch(generationId, notify),
    () => live.get(generationId)?.phase ?? null,
  );
}

/** The newest question of this conversation that the server has not taken yet. */
export function useOutgoing(conversationId: string | null): Outgoing | undefined {
  const chat = useChat();
  const all = useSyncExternalStore(chat.watchOutgoing, chat.readOutgoing);
  return all.findLast((each) => each.conversationId === conversationId);
}
