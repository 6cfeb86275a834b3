import { Link } from "@tanstack/react-router";
import { SquarePen, X } from "lucide-react";
import { type ReactNode, useEffect, useRef } from "react";
import { useTranslation } from "react-i18next";
import { Logo } from "../ui/Logo";

interface Props {
  /** As a drawer, on narrow screens; on wide ones the sidebar always stands. */
  open: boolean;
  onClose: () => void;
  onNewChat: () => void;
  children: ReactNode;
}

export function Sidebar({ open, onClose, onNewChat, children }: Props) {
  const { t } = useTranslation();
  const panel = useRef<HTMLElement>(null);
  const opener = useRef<Element | null>(null);
  useEffect(() => {
    if (!open) return;
    opener.current = document.activeElement;
    panel.current?.querySelector<HTMLElement>("button, a")?.focus();
    const onKeyDown = (event: KeyboardEvent) => {
      if (event.key === "Escape" && !event.defaultPrevented) onClose();
    };
    window.addEventListener("keydown", onKeyDown);
    return () => {
      window.removeEventListener("keydown", onKeyDown);
      if (opener.current instanceof HTMLElement) opener.current.focus();
    };
  }, [open, onClose]);
  return (
    <>
      <aside ref={panel} className="sidebar" data-open={open} aria-label={t("app.sidebar")}>
        <div className="sidebar-head">
          <Link to="/" className="wordmark" aria-label={t("app.home")}>
            <Logo size={28} />
            <span aria-hidden>Jarvis</span>
          </Link>
          <button
            type="button"
            className="icon-button lg:hidden"
            aria-label={t("app.closeSidebar")}
            onClick={onClose}
          >
            <X aria-hidden size={19} />
          </button>
        </div>
        <button type="button" className="new-chat" onClick={onNewChat} data-testid="new-chat">
          <SquarePen aria-hidden size={17} />
          {t("app.newChat")}
        </button>
        {children}
      </aside>
      {open && <div className="drawer-backdrop" aria-hidden onClick={onClose} />}
    </>
  );
}
