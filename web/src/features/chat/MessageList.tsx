import { memo, useEffect, useMemo, useState } from "react";
import { useTranslation } from "react-i18next";
import type { Message } from "../../api/types";
import { AssistantMessage } from "./AssistantMessage";
import { BranchPager } from "./BranchPager";
import { type MessageTree, siblingsOf } from "./tree";
import { UserMessage } from "./UserMessage";

interface Props {
  tree: MessageTree;
  path: readonly Message[];
  busy: boolean;
  onEdit: (message: Message, content: string) => void;
  onRegenerate: (message: Message) => void;
  onChoose: (messageId: string) => void;
}

/** Messages drawn at first and added each time: a chat of thousands opens as fast as a short one. */
const WINDOW = 40;

export function MessageList(props: Props) {
  const { t } = useTranslation();
  const { path, tree } = props;
  const [shown, setShown] = useState(WINDOW);
  const first = path[0]?.conversation_id;
  // biome-ignore lint/correctness/useExhaustiveDependencies: another conversation starts small again
  useEffect(() => setShown(WINDOW), [first]);
  const visible = useMemo(() => path.slice(Math.max(0, path.length - shown)), [path, shown]);
  return (
    <>
      {visible.length < path.length && (
        <button
          type="button"
          className="button button-quiet mx-auto"
          onClick={() => setShown((count) => count + WINDOW * 2)}
        >
          {t("chat.earlier", { count: path.length - visible.length })}
        </button>
      )}
      {visible.map((message) => {
        const siblings = siblingsOf(tree, message);
        return (
          <Row
            // Versions of a message share their place: turning the pages keeps the focus where it is.
            key={message.parent_id ?? "root"}
            message={message}
            position={siblings.position}
            count={siblings.count}
            previous={siblings.previous}
            next={siblings.next}
            busy={props.busy}
            onEdit={props.onEdit}
            onRegenerate={props.onRegenerate}
            onChoose={props.onChoose}
          />
        );
      })}
    </>
  );
}

interface RowProps {
  message: Message;
  position: number;
  count: number;
  previous: string | null;
  next: string | null;
  busy: boolean;
  onEdit: Props["onEdit"];
  onRegenerate: Props["onRegenerate"];
  onChoose: Props["onChoose"];
}

/** Takes only what cannot change while another message grows, so that memo holds. */
const Row = memo(function Row(props: RowProps) {
  const { message, busy, position, count, previous, next, onChoose } = props;
  const siblings = { position, count, previous, next };
  const pager = <BranchPager siblings={siblings} onChoose={onChoose} />;
  if (message.role === "system") return null;
  return message.role === "user" ? (
    <UserMessage message={message} pager={pager} busy={busy} onEdit={props.onEdit} />
  ) : (
    <AssistantMessage
      message={message}
      pager={pager}
      busy={busy}
      onRegenerate={props.onRegenerate}
    />
  );
});
