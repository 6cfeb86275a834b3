import { Link } from "@tanstack/react-router";
import { Ellipsis, Pencil, Trash2 } from "lucide-react";
import { memo, useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import type { Conversation } from "../../api/types";
import { Menu, MenuItem } from "../../ui/Menu";

interface Props {
  conversation: Conversation;
  active: boolean;
  onRename: (conversation: Conversation, title: string) => void;
  onDelete: (conversation: Conversation) => void;
  onOpen: () => void;
}

export const ConversationItem = memo(function ConversationItem(props: Props) {
  const { conversation, active } = props;
  const { t } = useTranslation();
  const [renaming, setRenaming] = useState(false);
  const title = conversation.title || t("history.untitled");
  if (renaming) {
    return (
      <li>
        <RenameForm
          title={conversation.title}
          onDone={(next) => {
            setRenaming(false);
            if (next && next !== conversation.title) props.onRename(conversation, next);
          }}
        />
      </li>
    );
  }
  return (
    <li className="conversation" data-active={active || undefined} data-testid="conversation">
      <Link
        to="/c/$conversationId"
        params={{ conversationId: conversation.id }}
        aria-current={active ? "page" : undefined}
        title={title}
        dir="auto"
        onClick={props.onOpen}
      >
        {title}
      </Link>
      <Menu
        label={t("history.actionsFor", { title })}
        trigger={
          <button
            type="button"
            className="icon-button icon-button-small"
            aria-label={t("history.actionsFor", { title })}
          >
            <Ellipsis aria-hidden size={16} />
          </button>
        }
      >
        <MenuItem icon={<Pencil aria-hidden size={15} />} onSelect={() => setRenaming(true)}>
          {t("history.rename")}
        </MenuItem>
        <MenuItem
          danger
          icon={<Trash2 aria-hidden size={15} />}
          onSelect={() => props.onDelete(conversation)}
        >
          {t("history.delete")}
        </MenuItem>
      </Menu>
    </li>
  );
});

/** Answers with the new title, or with null when it was left as it was. */
function RenameForm({ title, onDone }: { title: string; onDone: (title: string | null) => void }) {
  const { t } = useTranslation();
  const [text, setText] = useState(title);
  const done = useRef(false);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    field.current?.focus();
    field.current?.select();
  }, []);
  const finish = (value: string | null) => {
    if (done.current) return;
    done.current = true;
    onDone(value);
  };
  return (
    <form
      className="rename"
      onSubmit={(event) => {
        event.preventDefault();
        finish(text.trim() || null);
      }}
    >
      <input
        ref={field}
        aria-label={t("history.newTitle")}
        value={text}
        maxLength={200}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => event.key === "Escape" && finish(null)}
        onBlur={(event) =>
          event.relatedTarget === null && document.hasFocus() && finish(text.trim() || null)
        }
      />
    </form>
  );
}
