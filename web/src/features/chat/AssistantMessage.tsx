import { CircleAlert, CircleStop, RefreshCw } from "lucide-react";
import { memo, type ReactNode, useEffect } from "react";
import { useTranslation } from "react-i18next";
import type { Message } from "../../api/types";
import { CopyButton } from "../../ui/CopyButton";
import { Logo } from "../../ui/Logo";
import { useAnswer, useChat } from "./context";
import { Markdown } from "./markdown/Markdown";

interface Props {
  message: Message;
  pager: ReactNode;
  busy: boolean;
  onRegenerate: (message: Message) => void;
}

/** What is shown of an answer, whether it is still growing or was finished long ago. */
interface View {
  text: string;
  status: "queued" | "running" | "done" | "stopped" | "interrupted" | "failed";
  queue: { position: number; etaMs: number | null } | null;
  error: { code: string; message: string } | null;
}

/**
 * The same elements from the first word to the last and after: whoever selects text in an answer
 * keeps the selection when it ends. Only an unfinished answer listens to what arrives.
 */
export const AssistantMessage = memo(function AssistantMessage(props: Props) {
  const { message } = props;
  const chat = useChat();
  const status = message.generation?.status ?? "done";
  const unfinished = status === "queued" || status === "running";
  const answer = useAnswer(unfinished ? (message.generation?.id ?? "") : "");
  useEffect(() => {
    if (unfinished) chat.follow(message);
  }, [chat, message, unfinished]);
  const error = message.generation?.error ?? null;
  const view: View = answer
    ? { text: answer.text, status: answer.phase, queue: answer.queue, error: answer.error }
    : { text: message.content, status, queue: null, error };
  return <Body {...props} view={view} />;
});

function Body({ message, pager, busy, onRegenerate, view }: Props & { view: View }) {
  const { t } = useTranslation();
  const live = view.status === "queued" || view.status === "running";
  return (
    <article
      className="message message-assistant"
      aria-label={t("chat.jarvisSaid")}
      aria-busy={live}
      data-testid="message-assistant"
      data-message-id={message.id}
      data-status={view.status}
    >
      <div className={live ? "avatar avatar-live" : "avatar"}>
        <Logo size={26} />
      </div>
      <div className="min-w-0 flex-1">
        <h2 className="sr-only">{t("chat.jarvisSaid")}</h2>
        <div className={live && view.text ? "answer answer-live" : "answer"} dir="auto">
          <Markdown text={view.text} streaming={live} />
        </div>
        {live && !view.text && <Waiting queue={view.queue} />}
        <Ending view={view} />
        {!live && (
          <div className="message-actions">
            {pager}
            <CopyButton text={view.text} label={t("chat.copyMessage")} />
            <button
              type="button"
              className="icon-button icon-button-small"
              aria-label={t("chat.regenerate")}
              title={t("chat.regenerate")}
              data-testid="regenerate"
              disabled={busy}
              onClick={() => onRegenerate(message)}
            >
              <RefreshCw aria-hidden size={14} />
            </button>
            <UsageNote message={message} />
          </div>
        )}
      </div>
    </article>
  );
}

export function Waiting({ queue }: { queue: View["queue"] }) {
  const { t } = useTranslation();
  const seconds = queue?.etaMs ? Math.max(1, Math.round(queue.etaMs / 1000)) : null;
  const place = queue && queue.position > 0 ? t("chat.queued", { count: queue.position }) : null;
  return (
    <p className="waiting">
      <span className="dots" aria-hidden>
        <i />
        <i />
        <i />
      </span>
      <span>
        {place ?? t("chat.thinking")}
        {place && seconds !== null && ` · ${t("chat.eta", { seconds })}`}
      </span>
    </p>
  );
}

function Ending({ view }: { view: View }) {
  const { t } = useTranslation();
  if (view.status === "done" && !view.text.trim()) {
    return <p className="ending">{t("chat.nothingSaid")}</p>;
  }
  if (view.status === "stopped") {
    return (
      <p className="ending">
        <CircleStop aria-hidden size={15} />
        {t("chat.stopped")}
      </p>
    );
  }
  if (view.status !== "interrupted" && view.status !== "failed") return null;
  const words = view.error?.message ?? "";
  const cause = view.error && t(`problem.${view.error.code}`, { defaultValue: words });
  return (
    <p className="ending ending-bad" role="alert">
      <CircleAlert aria-hidden size={15} />
      <span>
        {t(view.text ? "chat.interrupted" : "chat.failed")} {cause}
      </span>
    </p>
  );
}

function UsageNote({ message }: { message: Message }) {
  const { t, i18n } = useTranslation();
  const usage = message.generation?.usage;
  if (!usage) return null;
  const seconds = (usage.total_ms - (usage.first_token_ms ?? 0)) / 1000;
  const digits = new Intl.NumberFormat(i18n.language, { maximumSignificantDigits: 2 });
  const rate = seconds > 0 ? digits.format(usage.completion_tokens / seconds) : null;
  return (
    <span className="usage">
      {message.generation?.model && <span>{message.generation.model}</span>}
      <span>{t("chat.tokens", { count: usage.completion_tokens })}</span>
      {rate !== null && <span>{t("chat.rate", { rate })}</span>}
    </span>
  );
}
