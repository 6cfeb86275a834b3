import { ArrowUp, Square } from "lucide-react";
import { type ReactNode, type RefObject, useEffect } from "react";
import { useTranslation } from "react-i18next";

interface Props {
  field: RefObject<HTMLTextAreaElement | null>;
  text: string;
  onText: (text: string) => void;
  onSend: () => void;
  /** Set while an answer is being written. */
  onStop: (() => void) | null;
  busy: boolean;
  footer: ReactNode;
}

const TALLEST_PX = 240;

/** Not on a touch screen: there the focus would open the keyboard over the page. */
export function focusField(field: HTMLTextAreaElement | null): void {
  if (matchMedia("(pointer: fine)").matches) field?.focus({ preventScroll: true });
}

export function Composer({ field, text, onText, onSend, onStop, busy, footer }: Props) {
  const { t } = useTranslation();
  // biome-ignore lint/correctness/useExhaustiveDependencies: the height follows the text
  useEffect(() => {
    const element = field.current;
    if (!element) return;
    element.style.height = "auto";
    element.style.height = `${Math.min(element.scrollHeight, TALLEST_PX)}px`;
  }, [text, field]);
  useEffect(() => focusField(field.current), [field]);
  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        onSend();
      }}
    >
      <div className="composer-box">
        <textarea
          id="message-field"
          ref={field}
          rows={1}
          dir="auto"
          value={text}
          aria-label={t("chat.composer")}
          placeholder={t("chat.placeholder")}
          data-testid="composer"
          onChange={(event) => onText(event.target.value)}
          onKeyDown={(event) => {
            if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
            event.preventDefault();
            onSend();
          }}
        />
        {onStop ? (
          <button
            type="button"
            className="send send-stop"
            aria-label={t("chat.stop")}
            title={t("chat.stop")}
            data-testid="stop"
            onClick={onStop}
          >
            <Square aria-hidden size={14} fill="currentColor" />
          </button>
        ) : (
          <button
            type="submit"
            className="send"
            aria-label={t("chat.send")}
            title={t("chat.send")}
            data-testid="send"
            disabled={busy || !text.trim()}
          >
            <ArrowUp aria-hidden size={20} strokeWidth={2.4} />
          </button>
        )}
      </div>
      <div className="composer-footer">{footer}</div>
    </form>
  );
}
