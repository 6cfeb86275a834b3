import type { QueryClient } from "@tanstack/react-query";
import { addMessages, patchMessage, setHead, supersedeLoads } from "../../api/cache";
import type { Api } from "../../api/client";
import { Emitter } from "../../api/emitter";
import { type ApiProblem, toProblem } from "../../api/problem";
import type { Accepted, RegenerateFrame, SendFrame } from "../../api/protocol";
import { keys } from "../../api/queries";
import type { ChatSocket } from "../../api/socket";
import type { Conversation, GenerationStatus, Message } from "../../api/types";
import { uuid } from "../../api/uuid";
import type { Answer } from "./answer";
import { forgetDrafts } from "./drafts";
import { LiveAnswers } from "./live";

/** A question on its way: shown at once, kept until the server has taken it. */
export interface Outgoing {
  readonly id: string;
  readonly kind: "send" | "regenerate";
  readonly conversationId: string | null;
  /** What it hangs under; null: the beginning. */
  readonly parentId: string | null;
  readonly content: string;
}

export interface Question {
  conversationId: string | null;
  parentId: string | null;
  content: string;
  model: string | null;
}

/** What the chat can do, over one socket and one query cache. */
export class ChatController {
  readonly live: LiveAnswers;
  readonly failed = new Emitter<{ outgoing: Outgoing; problem: ApiProblem }>();
  private readonly outgoingChanged = new Emitter<void>();
  private outgoing: readonly Outgoing[] = [];
  private readonly conversationOf = new Map<string, string>();
  private readonly socket: ChatSocket;
  private readonly client: QueryClient;
  private readonly api: Api;

  constructor(socket: ChatSocket, client: QueryClient, api: Api) {
    this.socket = socket;
    this.client = client;
    this.api = api;
    this.live = new LiveAnswers(socket);
    this.live.ended.on((answer) => this.keep(answer));
  }

  /** For useSyncExternalStore. */
  readonly watchOutgoing = (notify: () => void) => this.outgoingChanged.on(notify);
  readonly readOutgoing = () => this.outgoing;

  async send(question: Question): Promise<Accepted> {
    const { conversationId, parentId, content, model } = question;
    const frame: SendFrame = { type: "send", id: uuid(), conversation_id: conversationId, content };
    if (conversationId !== null) frame.parent_id = parentId;
    if (model) frame.model = model;
    const outgoing: Outgoing = { id: frame.id, kind: "send", conversationId, parentId, content };
    return this.deliver(outgoing, frame, (accepted) => {
      const asked = userMessage(accepted, parentId, content);
      if (conversationId === null) this.seed(accepted, model);
      addMessages(this.client, accepted.conversation_id, [asked]);
      this.begin(accepted, asked.id, model);
    });
  }

  async regenerate(conversationId: string, parentId: string, model: string | null) {
    const frame: RegenerateFrame = {
      type: "regenerate",
      id: uuid(),
      conversation_id: conversationId,
      parent_id: parentId,
    };
    if (model) frame.model = model;
    const kind = "regenerate" as const;
    const outgoing: Outgoing = { id: frame.id, kind, conversationId, parentId, content: "" };
    return this.deliver(outgoing, frame, (accepted) => this.begin(accepted, parentId, model));
  }

  /** Asks for a stop, by whichever way is open. */
  async stop(generationId: string): Promise<void> {
    if (this.socket.tell({ type: "cancel", generation_id: generationId })) return;
    const params = { path: { id: generationId } };
    await this.api.POST("/api/v1/generations/{id}/cancel", { params });
  }

  /** Follows an answer that the message list shows as unfinished. */
  follow(message: Message): void {
    if (!message.generation) return;
    this.conversationOf.set(message.generation.id, message.conversation_id);
    this.live.follow(message.generation.id, message.content);
  }

  clear(): void {
    this.live.clear();
    forgetDrafts();
    this.conversationOf.clear();
    this.setOutgoing([]);
  }

  private async deliver(
    outgoing: Outgoing,
    frame: SendFrame | RegenerateFrame,
    accept: (accepted: Accepted) => void,
  ): Promise<Accepted> {
    this.setOutgoing([...this.outgoing, outgoing]);
    try {
      const accepted = await this.socket.request(frame);
      accept(accepted);
      return accepted;
    } catch (thrown) {
      this.failed.emit({ outgoing, problem: toProblem(thrown) });
      throw thrown;
    } finally {
      this.setOutgoing(this.outgoing.filter((each) => each.id !== outgoing.id));
    }
  }

  private begin(accepted: Accepted, parentId: string, model: string | null): void {
    const { conversation_id, assistant_message_id, generation_id } = accepted;
    this.conversationOf.set(generation_id, conversation_id);
    const answer: Message = {
      id: assistant_message_id,
      conversation_id,
      parent_id: parentId,
      role: "assistant",
      content: "",
      created_at: new Date().toISOString(),
      generation: {
        id: generation_id,
        status: "queued",
        model: model ?? "",
        usage: null,
        error: null,
      },
    };
    addMessages(this.client, conversation_id, [answer]);
    setHead(this.client, conversation_id, assistant_message_id);
    supersedeLoads(this.client, conversation_id);
  }

  /** A conversation that the server has just made; its own word for it follows on the socket. */
  private seed(accepted: Accepted, model: string | null): void {
    const now = new Date().toISOString();
    const id = accepted.conversation_id;
    this.client.setQueryData<Conversation>(
      keys.conversation(id),
      (known) =>
        known ?? {
          id,
          title: "",
          model,
          head_message_id: accepted.assistant_message_id,
          created_at: now,
          updated_at: now,
        },
    );
  }

  /** Puts an ended answer's text into the message list. */
  private keep(answer: Answer): void {
    const conversationId = this.conversationOf.get(answer.generationId);
    if (!conversationId) return;
    patchMessage(
      this.client,
      conversationId,
      (message) => message.generation?.id === answer.generationId,
      (message) => ended(message, answer),
    );
    supersedeLoads(this.client, conversationId);
  }

  private setOutgoing(outgoing: readonly Outgoing[]): void {
    this.outgoing = outgoing;
    this.outgoingChanged.emit();
  }
}

function userMessage(accepted: Accepted, parentId: string | null, content: string): Message {
  return {
    id: accepted.message_id,
    conversation_id: accepted.conversation_id,
    parent_id: parentId,
    role: "user",
    content,
    created_at: new Date().toISOString(),
    generation: null,
  };
}

function ended(message: Message, answer: Answer): Message {
  if (!message.generation) return message;
  return {
    ...message,
    content: answer.text,
    generation: {
      ...message.generation,
      status: answer.phase as GenerationStatus,
      usage: answer.usage,
      error: answer.error,
    },
  };
}
