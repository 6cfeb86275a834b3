import { Search, X } from "lucide-react";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import type { Conversation } from "../../api/types";
import { Dialog } from "../../ui/Dialog";
import { useHotkey } from "../../ui/useHotkey";
import { ConversationItem } from "./ConversationItem";
import { type Group, groupByDate } from "./groups";
import { useConversations } from "./useConversations";

interface Props {
  activeId: string | null;
  onOpen: () => void;
  onDeleted: (id: string) => void;
}

export function History({ activeId, onOpen, onDeleted }: Props) {
  const { t, i18n } = useTranslation();
  const [search, setSearch] = useState("");
  const [doomed, setDoomed] = useState<Conversation | null>(null);
  const field = useRef<HTMLInputElement>(null);
  const { list, items, searching, rename, remove } = useConversations(search);
  useHotkey("k", () => field.current?.focus());
  const groups = useMemo(() => groupByDate(items, new Date()), [items]);
  const renameTo = rename.mutate;
  const onRename = useCallback(
    (conversation: Conversation, title: string) => renameTo({ id: conversation.id, title }),
    [renameTo],
  );
  const confirmDelete = () => {
    if (!doomed) return;
    remove.mutate(doomed, { onSuccess: () => onDeleted(doomed.id) });
    setDoomed(null);
  };
  const empty = list.isSuccess && items.length === 0 && !list.isFetchingNextPage;
  return (
    <>
      <div className="history-search">
        <Search aria-hidden size={15} />
        <input
          ref={field}
          type="search"
          value={search}
          placeholder={t("history.search")}
          aria-label={t("history.search")}
          data-testid="history-search"
          onChange={(event) => setSearch(event.target.value)}
          onKeyDown={(event) => event.key === "Escape" && setSearch("")}
        />
        {search ? (
          <button
            type="button"
            className="icon-button icon-button-small"
            aria-label={t("history.clearSearch")}
            onClick={() => setSearch("")}
          >
            <X aria-hidden size={14} />
          </button>
        ) : (
          <kbd aria-hidden>{/Mac|iPhone|iPad/.test(navigator.userAgent) ? "⌘K" : "Ctrl K"}</kbd>
        )}
      </div>
      <nav className="history" aria-label={t("history.title")} data-testid="history">
        {list.isPending && <Skeleton />}
        {list.isError && !list.data && (
          <p className="quiet-note" role="alert">
            {t("history.failed")}{" "}
            <button type="button" className="link" onClick={() => void list.refetch()}>
              {t("common.retry")}
            </button>
          </p>
        )}
        {empty && (
          <p className="quiet-note">{t(searching ? "history.noMatch" : "history.empty")}</p>
        )}
        {groups.map((group) => (
          <section key={groupKey(group)} aria-label={groupLabel(group, t, i18n.language)}>
            <h2>{groupLabel(group, t, i18n.language)}</h2>
            <ul>
              {group.items.map((conversation) => (
                <ConversationItem
                  key={conversation.id}
                  conversation={conversation}
                  active={conversation.id === activeId}
                  onRename={onRename}
                  onDelete={setDoomed}
                  onOpen={onOpen}
                />
              ))}
            </ul>
          </section>
        ))}
        {list.hasNextPage && (
          <More loading={list.isFetchingNextPage} onMore={() => void list.fetchNextPage()} />
        )}
      </nav>
      <Dialog
        open={doomed !== null}
        onOpenChange={(open) => !open && setDoomed(null)}
        title={t("history.deleteTitle")}
        description={t("history.deleteText", { title: doomed?.title || t("history.untitled") })}
      >
        <footer>
          <button type="button" className="button button-quiet" onClick={() => setDoomed(null)}>
            {t("common.cancel")}
          </button>
          <button type="button" className="button button-danger" onClick={confirmDelete}>
            {t("history.deleteConfirm")}
          </button>
        </footer>
      </Dialog>
    </>
  );
}

/** Loads on as it comes into view; the button is for those who never scroll it there. */
function More({ loading, onMore }: { loading: boolean; onMore: () => void }) {
  const { t } = useTranslation();
  const button = useRef<HTMLButtonElement>(null);
  const more = useRef(onMore);
  more.current = onMore;
  useEffect(() => {
    const element = button.current;
    if (!element || loading) return;
    const observer = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) more.current();
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [loading]);
  return (
    <button
      ref={button}
      type="button"
      className="button button-quiet w-full"
      disabled={loading}
      onClick={onMore}
    >
      {t(loading ? "common.loading" : "history.more")}
    </button>
  );
}

function Skeleton() {
  return (
    <div className="skeleton" aria-hidden>
      {[82, 64, 73, 55, 68].map((width) => (
        <i key={width} style={{ width: `${width}%` }} />
      ))}
    </div>
  );
}

function groupKey(group: Group): string {
  return group.kind === "older" ? `${group.year}-${group.month}` : group.kind;
}

function groupLabel(group: Group, t: (key: string) => string, language: string): string {
  if (group.kind !== "older") return t(`history.${group.kind}`);
  const date = new Date(group.year, group.month, 1);
  return new Intl.DateTimeFormat(language, { month: "long", year: "numeric" }).format(date);
}
