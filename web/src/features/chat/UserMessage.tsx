import { Pencil } from "lucide-react";
import { memo, type ReactNode, useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import type { Message } from "../../api/types";
import { CopyButton } from "../../ui/CopyButton";

interface Props {
  message: Message;
  pager: ReactNode;
  busy: boolean;
  onEdit: (message: Message, content: string) => void;
}

export const UserMessage = memo(function UserMessage({ message, pager, busy, onEdit }: Props) {
  const { t } = useTranslation();
  const [editing, setEditing] = useState(false);
  const editButton = useRef<HTMLButtonElement>(null);
  const close = () => {
    setEditing(false);
    requestAnimationFrame(() => editButton.current?.focus());
  };
  return (
    <article
      className="message message-user"
      aria-label={t("chat.youSaid")}
      data-testid="message-user"
      data-message-id={message.id}
    >
      <h2 className="sr-only">{t("chat.youSaid")}</h2>
      {editing ? (
        <EditForm
          initial={message.content}
          onCancel={close}
          onSave={(content) => {
            setEditing(false);
            onEdit(message, content);
          }}
        />
      ) : (
        <>
          <p className="bubble" dir="auto">
            {message.content}
          </p>
          <div className="message-actions">
            {pager}
            <button
              ref={editButton}
              type="button"
              className="icon-button icon-button-small"
              aria-label={t("chat.edit")}
              title={t("chat.edit")}
              disabled={busy}
              onClick={() => setEditing(true)}
            >
              <Pencil aria-hidden size={14} />
            </button>
            <CopyButton text={message.content} label={t("chat.copyMessage")} />
          </div>
        </>
      )}
    </article>
  );
});

interface EditProps {
  initial: string;
  onSave: (content: string) => void;
  onCancel: () => void;
}

function EditForm({ initial, onSave, onCancel }: EditProps) {
  const { t } = useTranslation();
  const [text, setText] = useState(initial);
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    field.current?.focus();
    field.current?.setSelectionRange(initial.length, initial.length);
  }, [initial.length]);
  const save = () => {
    if (text.trim()) onSave(text.trim());
  };
  return (
    <form
      className="edit-form"
      onSubmit={(event) => {
        event.preventDefault();
        save();
      }}
    >
      <textarea
        ref={field}
        aria-label={t("chat.editLabel")}
        value={text}
        dir="auto"
        onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") onCancel();
          if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
            event.preventDefault();
            save();
          }
        }}
      />
      <p className="field-hint">{t("chat.editHint")}</p>
      <div className="flex justify-end gap-2">
        <button type="button" className="button button-quiet" onClick={onCancel}>
          {t("common.cancel")}
        </button>
        <button type="submit" className="button button-primary" disabled={!text.trim()}>
          {t("chat.editSave")}
        </button>
      </div>
    </form>
  );
}
