import { Link } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";
import type { Instance } from "../api/types";
import { BrandPanel } from "../features/auth/BrandPanel";
import { SignInForm } from "../features/auth/SignInForm";
import { SignUpForm } from "../features/auth/SignUpForm";
import { LanguageSwitch } from "../features/settings/LanguageSwitch";
import { ThemeSwitch } from "../features/settings/ThemeSwitch";
import { Logo } from "../ui/Logo";

interface Props {
  mode: "sign-in" | "sign-up";
  instance: Instance;
  invite: string;
}

export function AuthPage({ mode, instance, invite }: Props) {
  const { t } = useTranslation();
  const open = instance.needs_setup || instance.registration !== "closed";
  return (
    <div className="auth-page">
      <main>
        <header>
          <span className="wordmark">
            <Logo size={30} />
            Jarvis
          </span>
        </header>
        {mode === "sign-in" && (
          <SignInForm
            footer={
              open && (
                <>
                  {t("auth.noAccount")} <Link to="/sign-up">{t("auth.signUp")}</Link>
                </>
              )
            }
          />
        )}
        {mode === "sign-up" && open && (
          <SignUpForm
            instance={instance}
            invite={invite}
            footer={
              !instance.needs_setup && (
                <>
                  {t("auth.haveAccount")} <Link to="/sign-in">{t("auth.signIn")}</Link>
                </>
              )
            }
          />
        )}
        {mode === "sign-up" && !open && (
          <div className="auth-form">
            <h1>{t("auth.closedTitle")}</h1>
            <p className="auth-intro">{t("auth.closedText")}</p>
            <Link to="/sign-in" className="button button-primary button-large">
              {t("auth.signIn")}
            </Link>
          </div>
        )}
        <footer>
          <LanguageSwitch />
          <ThemeSwitch />
        </footer>
      </main>
      <BrandPanel />
    </div>
  );
}
