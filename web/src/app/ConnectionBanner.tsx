import { useQuery } from "@tanstack/react-query";
import { CloudOff, TriangleAlert } from "lucide-react";
import { useEffect, useState, useSyncExternalStore } from "react";
import { useTranslation } from "react-i18next";
import { statusQuery } from "../api/queries";
import { useConnection, useServices } from "../api/services";
import { type Trouble, worstTrouble } from "./banner";

/** A connection that comes back within this time was never worth a word. */
const GRACE_MS = 1_200;

function useOnline(): boolean {
  return useSyncExternalStore(
    (notify) => {
      window.addEventListener("online", notify);
      window.addEventListener("offline", notify);
      return () => {
        window.removeEventListener("online", notify);
        window.removeEventListener("offline", notify);
      };
    },
    () => navigator.onLine,
  );
}

export function ConnectionBanner() {
  const { t } = useTranslation();
  const { api, socket } = useServices();
  const connection = useConnection();
  const online = useOnline();
  const status = useQuery({ ...statusQuery(api), enabled: connection === "ready" });
  const trouble = worstTrouble({
    online,
    connection,
    status: status.data,
    statusFailed: status.isError,
  });
  const shown = useAfterGrace(trouble);
  const away = shown?.key === "offline" || shown?.key === "reconnecting";
  const Icon = away ? CloudOff : TriangleAlert;
  return (
    <div role="status" aria-live="polite" className="banner-slot">
      {shown && (
        <div
          className={shown.bad ? "banner banner-bad" : "banner"}
          data-testid="connection-banner"
          data-trouble={shown.key}
        >
          <Icon aria-hidden size={16} />
          <p>{t(`banner.${shown.key}`, { names: shown.words, detail: shown.words })}</p>
          {shown.key === "reconnecting" && (
            <button type="button" className="link" onClick={() => socket.retryNow()}>
              {t("banner.retryNow")}
            </button>
          )}
        </div>
      )}
    </div>
  );
}

function useAfterGrace(trouble: Trouble | null): Trouble | null {
  const patient = trouble?.key === "reconnecting";
  const [over, setOver] = useState(false);
  useEffect(() => {
    if (!patient) {
      setOver(false);
      return;
    }
    const timer = setTimeout(() => setOver(true), GRACE_MS);
    return () => clearTimeout(timer);
  }, [patient]);
  return patient && !over ? null : trouble;
}
