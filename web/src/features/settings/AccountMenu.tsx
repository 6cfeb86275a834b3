import { ChevronsUpDown, LogOut, UserPlus } from "lucide-react";
import { Popover } from "radix-ui";
import { useTranslation } from "react-i18next";
import type { Me } from "../../api/types";
import { LanguageSwitch } from "./LanguageSwitch";
import { ThemeSwitch } from "./ThemeSwitch";

interface Props {
  me: Me | undefined;
  /** Where people may be invited. */
  onInvite?: (() => void) | undefined;
  onSignOut: () => void;
}

export function AccountMenu({ me, onInvite, onSignOut }: Props) {
  const { t } = useTranslation();
  const email = me?.email ?? "…";
  return (
    <Popover.Root>
      <Popover.Trigger asChild>
        <button type="button" className="account" data-testid="account-menu">
          <span className="account-initial" data-initial={email.charAt(0).toUpperCase()} />
          <span className="sr-only">{t("settings.account")}</span>
          <span className="min-w-0 flex-1 truncate text-left">{email}</span>
          <ChevronsUpDown aria-hidden size={15} />
        </button>
      </Popover.Trigger>
      <Popover.Portal>
        <Popover.Content
          className="menu account-panel"
          side="top"
          align="start"
          sideOffset={8}
          collisionPadding={12}
          aria-label={t("settings.title")}
        >
          <div className="setting">
            <span>{t("settings.language")}</span>
            <LanguageSwitch />
          </div>
          <div className="setting">
            <span>{t("settings.theme")}</span>
            <ThemeSwitch />
          </div>
          <div className="menu-separator" />
          {onInvite && (
            <Popover.Close
              className="menu-item w-full"
              data-testid="invite-people"
              onClick={onInvite}
            >
              <UserPlus aria-hidden size={16} />
              {t("invitations.menu")}
            </Popover.Close>
          )}
          <button
            type="button"
            className="menu-item w-full"
            data-testid="sign-out"
            onClick={onSignOut}
          >
            <LogOut aria-hidden size={16} />
            {t("settings.signOut")}
          </button>
        </Popover.Content>
      </Popover.Portal>
    </Popover.Root>
  );
}
