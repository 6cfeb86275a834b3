import { Link } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";
import { Logo } from "../ui/Logo";

export function Splash() {
  return (
    <main className="screen" aria-busy="true">
      <div className="avatar-live">
        <Logo size={44} />
      </div>
    </main>
  );
}

export function Unreachable() {
  const { t } = useTranslation();
  return (
    <main className="screen">
      <Logo size={44} />
      <div role="alert">
        <h1>{t("app.unreachable")}</h1>
        <p>{t("app.unreachableText")}</p>
      </div>
    </main>
  );
}

export function Crashed() {
  const { t } = useTranslation();
  return (
    <main className="screen">
      <Logo size={44} />
      <div role="alert">
        <h1>{t("app.crashed")}</h1>
        <p>{t("app.crashedText")}</p>
      </div>
      <button
        type="button"
        className="button button-primary"
        onClick={() => window.location.reload()}
      >
        {t("app.reload")}
      </button>
    </main>
  );
}

export function PageNotFound() {
  const { t } = useTranslation();
  return (
    <main className="screen">
      <Logo size={44} />
      <h1>{t("app.pageNotFound")}</h1>
      <Link to="/" className="button button-primary">
        {t("app.backHome")}
      </Link>
    </main>
  );
}
