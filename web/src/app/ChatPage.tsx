import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { PanelLeft, SquarePen } from "lucide-react";
import { useCallback, useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { conversationQuery, instanceQuery, meQuery } from "../api/queries";
import { useServices } from "../api/services";
import { Chat } from "../features/chat/Chat";
import { History } from "../features/history/History";
import { InvitationsDialog } from "../features/invitations/InvitationsDialog";
import { DemoNotice } from "../features/models/DemoNotice";
import { ModelPicker } from "../features/models/ModelPicker";
import { useModelChoice } from "../features/models/useModelChoice";
import { AccountMenu } from "../features/settings/AccountMenu";
import { useHotkey } from "../ui/useHotkey";
import { ConnectionBanner } from "./ConnectionBanner";
import { Sidebar } from "./Sidebar";

export function ChatPage({ conversationId }: { conversationId: string | null }) {
  const { t } = useTranslation();
  const { api, session } = useServices();
  const navigate = useNavigate();
  const [drawer, setDrawer] = useState(false);
  const [inviting, setInviting] = useState(false);
  const me = useQuery(meQuery(api));
  const instance = useQuery(instanceQuery(api));
  const invites = me.data?.role === "admin" && instance.data?.registration === "invite";
  const choice = useModelChoice(conversationId);
  const title = useTitle(conversationId);

  const newChat = useCallback(() => {
    setDrawer(false);
    void navigate({ to: "/" });
  }, [navigate]);
  useHotkey("o", newChat, true);
  const onCreated = useCallback(
    (id: string) =>
      void navigate({ to: "/c/$conversationId", params: { conversationId: id }, replace: true }),
    [navigate],
  );
  const onDeleted = (id: string) => {
    if (id === conversationId) newChat();
  };

  return (
    <div className="shell">
      <a className="skip" href="#message-field">
        {t("app.skip")}
      </a>
      <Sidebar open={drawer} onClose={() => setDrawer(false)} onNewChat={newChat}>
        <History activeId={conversationId} onOpen={() => setDrawer(false)} onDeleted={onDeleted} />
        <AccountMenu
          me={me.data}
          onInvite={invites ? () => setInviting(true) : undefined}
          onSignOut={() => void session.signOut().catch(() => undefined)}
        />
      </Sidebar>
      <InvitationsDialog open={inviting} onOpenChange={setInviting} />
      <main className="main">
        <header className="topbar">
          <button
            type="button"
            className="icon-button lg:hidden"
            aria-label={t("app.openSidebar")}
            aria-expanded={drawer}
            onClick={() => setDrawer(true)}
          >
            <PanelLeft aria-hidden size={20} />
          </button>
          <ModelPicker
            models={choice.models}
            model={choice.model}
            loading={choice.loading}
            onChoose={choice.choose}
          />
          <Link to="/" className="icon-button ml-auto lg:hidden" aria-label={t("app.newChat")}>
            <SquarePen aria-hidden size={19} />
          </Link>
        </header>
        {conversationId !== null && <h1 className="sr-only">{title || t("history.untitled")}</h1>}
        <ConnectionBanner />
        <Chat
          key={conversationId ?? "new"}
          conversationId={conversationId}
          model={choice.model?.name ?? null}
          onCreated={onCreated}
          footer={<DemoNotice model={choice.model} />}
        />
      </main>
    </div>
  );
}

/** The conversation's title, shown in the browser's tab too. */
function useTitle(conversationId: string | null): string {
  const { api } = useServices();
  const conversation = useQuery({
    ...conversationQuery(api, conversationId ?? ""),
    enabled: conversationId !== null,
  });
  const title = conversationId === null ? "" : (conversation.data?.title ?? "");
  useEffect(() => {
    document.title = title ? `${title} · Jarvis` : "Jarvis";
  }, [title]);
  return title;
}
