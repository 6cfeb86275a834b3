import { ArrowDown, CircleAlert } from "lucide-react";
import { type ReactNode, useCallback, useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { type ApiProblem, toProblem } from "../../api/problem";
import { useConnection } from "../../api/services";
import type { Message } from "../../api/types";
import { Logo } from "../../ui/Logo";
import { Waiting } from "./AssistantMessage";
import { Composer, focusField } from "./Composer";
import { useChat, useOutgoing, usePhase } from "./context";
import { readDraft, writeDraft } from "./drafts";
import { EmptyState } from "./EmptyState";
import { MessageList } from "./MessageList";
import { plainText } from "./plain";
import { useConversation } from "./useConversation";
import { useStickToBottom } from "./useStickToBottom";

interface Props {
  conversationId: string | null;
  /** Null: the server's default. */
  model: string | null;
  onCreated: (conversationId: string) => void;
  /** Under the composer. */
  footer: ReactNode;
}

export function Chat({ conversationId, model, onCreated, footer }: Props) {
  const { t } = useTranslation();
  const chat = useChat();
  const { tree, path, choose, loading, problem, retry } = useConversation(conversationId);
  const outgoing = useOutgoing(conversationId);
  const viewport = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const field = useRef<HTMLTextAreaElement>(null);
  const { atBottom, toBottom } = useStickToBottom(viewport, content);
  const [text, setText] = useState(() => readDraft(conversationId));
  const [failure, setFailure] = useState<ApiProblem | null>(null);

  const type = (value: string) => {
    setText(value);
    writeDraft(conversationId, value);
  };

  const head = path.at(-1);
  const liveId = useLiveGeneration(head);
  const busy = liveId !== null || outgoing !== undefined;

  useEffect(
    () =>
      chat.accepted.on(({ outgoing, accepted }) => {
        if (conversationId !== null || outgoing.conversationId !== null) return;
        onCreated(accepted.conversation_id);
      }),
    [chat, conversationId, onCreated],
  );
  useEffect(
    () =>
      chat.refused.on(({ outgoing, problem }) => {
        if (outgoing.conversationId !== conversationId) return;
        setFailure(problem);
        setText(readDraft(conversationId));
      }),
    [chat, conversationId],
  );

  const ask = useCallback(
    (parentId: string | null, question: string) => {
      setFailure(null);
      toBottom();
      chat.send({ conversationId, parentId, content: question, model });
    },
    [chat, conversationId, model, toBottom],
  );

  const send = () => {
    const question = text.trim();
    if (!question || busy || loading) return;
    type("");
    ask(head?.id ?? null, question);
  };

  // What was pressed goes away with what it started: the focus goes on where the next word is typed.
  const onEdit = useCallback(
    (message: Message, question: string) => {
      focusField(field.current);
      ask(message.parent_id, question);
    },
    [ask],
  );
  const onRegenerate = useCallback(
    (message: Message) => {
      if (conversationId === null || message.parent_id === null) return;
      setFailure(null);
      focusField(field.current);
      toBottom();
      chat.regenerate(conversationId, message.parent_id, model);
    },
    [chat, conversationId, model, toBottom],
  );
  const stop = () => {
    focusField(field.current);
    if (liveId) chat.stop(liveId).catch((thrown: unknown) => setFailure(toProblem(thrown)));
  };

  const shown = outgoing ? upTo(path, outgoing.parentId) : path;
  const empty = !loading && !problem && shown.length === 0 && !outgoing;
  return (
    <div className="chat">
      <div className="chat-scroll" ref={viewport} data-testid="chat-scroll">
        {/* biome-ignore lint/a11y/useSemanticElements: a log is what this is */}
        <div
          className={empty ? "chat-content chat-content-empty" : "chat-content"}
          ref={content}
          role="region"
          aria-label={t("chat.messages")}
        >
          {loading && <p className="quiet-note">{t("common.loading")}</p>}
          {problem && <LoadProblem problem={toProblem(problem)} onRetry={retry} />}
          {empty && (
            <EmptyState
              onChoose={(suggestion) => {
                type(suggestion);
                field.current?.focus();
              }}
            />
          )}
          <MessageList
            tree={tree}
            path={shown}
            busy={busy}
            onEdit={onEdit}
            onRegenerate={onRegenerate}
            onChoose={choose}
          />
          {outgoing && <OutgoingMessage content={outgoing.content} />}
        </div>
      </div>
      <div className="chat-bottom">
        {!atBottom && (
          <button type="button" className="jump" onClick={toBottom} data-testid="jump-to-latest">
            <ArrowDown aria-hidden size={16} />
            {t("chat.jump")}
          </button>
        )}
        {failure && <Failure problem={failure} onClose={() => setFailure(null)} />}
        <Composer
          field={field}
          text={text}
          onText={type}
          onSend={send}
          onStop={liveId ? stop : null}
          busy={busy || loading}
          footer={footer}
        />
      </div>
      <Announcer head={head} />
    </div>
  );
}

/** The path down to `parentId`: what stays when a question is asked again from there. */
function upTo(path: readonly Message[], parentId: string | null): readonly Message[] {
  if (parentId === null) return [];
  const index = path.findIndex((message) => message.id === parentId);
  return index < 0 ? path : path.slice(0, index + 1);
}

/** The generation that is still writing the last message, if one is. */
function useLiveGeneration(head: Message | undefined): string | null {
  const generation = head?.generation;
  const phase = usePhase(generation?.id ?? "");
  if (!generation || (generation.status !== "queued" && generation.status !== "running")) {
    return null;
  }
  return phase === null || phase === "queued" || phase === "running" ? generation.id : null;
}

function OutgoingMessage({ content }: { content: string }) {
  const { t } = useTranslation();
  const connected = useConnection() === "ready";
  return (
    <>
      {content && (
        <article className="message message-user" aria-label={t("chat.youSaid")}>
          <p className="bubble bubble-pending" dir="auto">
            {content}
          </p>
        </article>
      )}
      <div className="message message-assistant">
        <div className="avatar avatar-live">
          <Logo size={26} />
        </div>
        {connected ? (
          <Waiting queue={null} />
        ) : (
          <p className="waiting">{t("chat.waitingForConnection")}</p>
        )}
      </div>
    </>
  );
}

function Failure({ problem, onClose }: { problem: ApiProblem; onClose: () => void }) {
  const { t } = useTranslation();
  const known = t(`problem.${problem.code}`, { defaultValue: "" });
  return (
    <div className="notice notice-bad" role="alert" data-testid="chat-error">
      <CircleAlert aria-hidden size={17} />
      <p>{known || problem.detail || t("problem.internal")}</p>
      <button type="button" className="button button-quiet" onClick={onClose}>
        {t("common.dismiss")}
      </button>
    </div>
  );
}

function LoadProblem({ problem, onRetry }: { problem: ApiProblem; onRetry: () => void }) {
  const { t } = useTranslation();
  const gone = problem.code === "not_found";
  return (
    <div className="load-problem" role="alert">
      <h2>{t(gone ? "chat.notFound" : "chat.loadFailed")}</h2>
      <p>{gone ? t("chat.notFoundHint") : t(`problem.${problem.code}`, { defaultValue: "" })}</p>
      {!gone && (
        <button type="button" className="button button-primary" onClick={onRetry}>
          {t("common.retry")}
        </button>
      )}
    </div>
  );
}

/** Tells screen readers that an answer has begun, and reads it when it is whole. */
function Announcer({ head }: { head: Message | undefined }) {
  const { t } = useTranslation();
  const generationId = head?.generation?.id ?? "";
  const answer = usePhase(generationId);
  const [words, setWords] = useState("");
  const { live } = useChat();
  useEffect(() => {
    if (answer === null) return;
    if (answer === "queued" || answer === "running") setWords(t("chat.writing"));
    else {
      const text = plainText(live.get(generationId)?.text ?? "", t("code.plain"));
      setWords(`${t(answer === "done" ? "chat.finished" : "chat.endedEarly")} ${text}`);
    }
  }, [answer, generationId, live, t]);
  return (
    <div className="sr-only" role="status" aria-live="polite" data-testid="announcer">
      {words}
    </div>
  );
}
