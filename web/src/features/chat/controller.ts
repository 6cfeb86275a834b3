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
import { forgetDrafts, readDraft, writeDraft } from "./drafts";
import { LiveAnswers } from "./live";
import { dropFromOutbox, forgetOutbox, keepInOutbox, readOutbox } from "./outbox";

/** A question on its way: shown at once, kept until the server has taken it. */
export interface Outgoing {
  readonly conversationId: string | null;
  /** What it hangs under; null: the beginning. */
  readonly parentId: string | null;
  /** Empty when a question that stands there is answered again. */
  readonly content: string;
  readonly frame: SendFrame | RegenerateFrame;
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
  readonly accepted = new Emitter<{ outgoing: Outgoing; accepted: Accepted }>();
  /** The server refused it; what was typed is a draft again. */
  readonly refused = new Emitter<{ outgoing: Outgoing; problem: ApiProblem }>();
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
    for (const frame of readOutbox()) void this.deliver(frame);
  }

  /** For useSyncExternalStore. */
  readonly watchOutgoing = (notify: () => void) => this.outgoingChanged.on(notify);
  readonly readOutgoing = () => this.outgoing;

  /** Asks a question; what comes of it is told by `accepted` or `refused`. */
  send({ conversationId, parentId, content, model }: Question): void {
    const frame: SendFrame = { type: "send", id: uuid(), conversation_id: conversationId, content };
    if (conversationId !== null) frame.parent_id = parentId;
    if (model) frame.model = model;
    void this.deliver(frame);
  }

  /** Asks for another answer to a question that stands in the conversation. */
  regenerate(conversationId: string, parentId: string, model: string | null): void {
    const frame: RegenerateFrame = {
      type: "regenerate",
      id: uuid(),
      conversation_id: conversationId,
      parent_id: parentId,
    };
    if (model) frame.model = model;
    void this.deliver(frame);
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
    forgetOutbox();
    this.conversationOf.clear();
    this.setOutgoing([]);
  }

  private async deliver(frame: SendFrame | RegenerateFrame): Promise<void> {
    const outgoing: Outgoing = {
      conversationId: frame.conversation_id,
      parentId: frame.parent_id ?? null,
      content: frame.type === "send" ? frame.content : "",
      frame,
    };
    keepInOutbox(frame);
    this.setOutgoing([...this.outgoing, outgoing]);
    try {
      const accepted = await this.socket.request(frame);
      this.take(outgoing, accepted);
      this.settle(outgoing);
      this.accepted.emit({ outgoing, accepted });
    } catch (thrown) {
      // Somebody else may sign in next: theirs is not the place for it.
      if (this.settle(outgoing)) this.giveBack(outgoing, toProblem(thrown));
    }
  }

  /** Puts what the server has taken where it shows. */
  private take({ conversationId, parentId, content, frame }: Outgoing, accepted: Accepted): void {
    const model = frame.model ?? null;
    if (frame.type === "send") {
      if (conversationId === null) this.seed(accepted, model);
      const asked = userMessage(accepted, parentId, content);
      addMessages(this.client, accepted.conversation_id, [asked]);
    }
    this.begin(accepted, frame.type === "send" ? accepted.message_id : frame.parent_id, model);
  }

  /** Nothing typed is ever lost: a refused question goes back where it was written. */
  private giveBack(outgoing: Outgoing, problem: ApiProblem): void {
    const { conversationId, content } = outgoing;
    if (content && !readDraft(conversationId)) writeDraft(conversationId, content);
    this.refused.emit({ outgoing, problem });
  }

  /** It is on its way no more; false if it was forgotten before. */
  private settle(outgoing: Outgoing): boolean {
    const rest = this.outgoing.filter((each) => each !== outgoing);
    if (rest.length === this.outgoing.length) return false;
    dropFromOutbox(outgoing.frame.id);
    this.setOutgoing(rest);
    return true;
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
