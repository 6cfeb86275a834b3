import { CircleAlert, UserPlus } from "lucide-react";
import { useTranslation } from "react-i18next";
import { toProblem } from "../../api/problem";
import { CopyButton } from "../../ui/CopyButton";
import { Dialog } from "../../ui/Dialog";
import { invitationLink, useInvitations } from "./useInvitations";

interface Props {
  open: boolean;
  onOpenChange: (open: boolean) => void;
}

/** Where an administrator lets people in, one link for each. */
export function InvitationsDialog({ open, onOpenChange }: Props) {
  const { t } = useTranslation();
  return (
    <Dialog
      open={open}
      onOpenChange={onOpenChange}
      title={t("invitations.title")}
      description={t("invitations.text")}
    >
      <Invitations />
    </Dialog>
  );
}

function Invitations() {
  const { t, i18n } = useTranslation();
  const { list, create, withdraw } = useInvitations();
  const thrown = create.error ?? withdraw.error ?? list.error;
  const problem = thrown && toProblem(thrown);
  const day = new Intl.DateTimeFormat(i18n.language, { dateStyle: "long", timeStyle: "short" });
  const when = (time: string) => day.format(new Date(time));
  return (
    <div className="invitations">
      {problem && (
        <div className="notice notice-bad" role="alert">
          <CircleAlert aria-hidden size={17} />
          <p>{t(`problem.${problem.code}`, { defaultValue: problem.detail })}</p>
        </div>
      )}
      {create.data && (
        <div className="command" data-testid="invitation-link">
          <input
            readOnly
            aria-label={t("invitations.link")}
            value={invitationLink(create.data.code)}
            onFocus={(event) => event.target.select()}
          />
          <CopyButton text={invitationLink(create.data.code)} label={t("invitations.copy")} />
        </div>
      )}
      {create.data && <p className="field-hint">{t("invitations.once")}</p>}
      <button
        type="button"
        className="button button-primary"
        disabled={create.isPending}
        onClick={() => create.mutate()}
      >
        <UserPlus aria-hidden size={16} />
        {t("invitations.create")}
      </button>
      {list.data && list.data.length > 0 && (
        <section>
          <h3>{t("invitations.open")}</h3>
          <ul>
            {list.data.map((each) => (
              <li key={each.id} data-testid="invitation">
                <span>{t("invitations.until", { time: when(each.expires_at) })}</span>
                <button
                  type="button"
                  className="button button-quiet"
                  aria-label={t("invitations.withdrawThis", { time: when(each.created_at) })}
                  disabled={withdraw.isPending}
                  onClick={() => withdraw.mutate(each.id)}
                >
                  {t("invitations.withdraw")}
                </button>
              </li>
            ))}
          </ul>
        </section>
      )}
    </div>
  );
}
