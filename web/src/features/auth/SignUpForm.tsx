import { type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";
import { unwrap } from "../../api/client";
import { useServices } from "../../api/services";
import type { Instance } from "../../api/types";
import { Field } from "../../ui/Field";
import { AuthForm } from "./AuthForm";

const SHORTEST_PASSWORD = 8;

interface Props {
  instance: Instance;
  /** From an invitation's link. */
  invite: string;
  footer: ReactNode;
}

export function SignUpForm({ instance, invite, footer }: Props) {
  const { t } = useTranslation();
  const { api, session } = useServices();
  const first = instance.needs_setup;
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [setupToken, setSetupToken] = useState("");
  const [code, setCode] = useState(invite);
  const needsToken = first && instance.setup_token_required;
  const needsInvite = !first && instance.registration === "invite";
  const signUp = async () => {
    const body = {
      email: email.trim(),
      password,
      ...(needsToken ? { setup_token: setupToken.trim() } : {}),
      ...(needsInvite ? { invite: code.trim() } : {}),
    };
    session.adopt(await unwrap(api.POST("/api/v1/auth/register", { body })));
  };
  return (
    <AuthForm
      title={t(first ? "auth.setupTitle" : "auth.signUpTitle")}
      intro={t(first ? "auth.setupIntro" : "auth.signUpIntro")}
      submitLabel={t(first ? "auth.setup" : "auth.signUp")}
      onSubmit={signUp}
      footer={footer}
      testId="sign-up-form"
    >
      <Field
        label={t("auth.email")}
        type="email"
        name="email"
        autoComplete="username"
        required
        autoFocus
        value={email}
        onChange={(event) => setEmail(event.target.value)}
      />
      <Field
        label={t("auth.password")}
        hint={t("auth.passwordHint", { count: SHORTEST_PASSWORD })}
        type="password"
        name="password"
        autoComplete="new-password"
        required
        minLength={SHORTEST_PASSWORD}
        value={password}
        onChange={(event) => setPassword(event.target.value)}
      />
      {needsToken && (
        <Field
          label={t("auth.setupToken")}
          hint={t("auth.setupTokenHint")}
          name="setup_token"
          autoComplete="off"
          spellCheck={false}
          required
          value={setupToken}
          onChange={(event) => setSetupToken(event.target.value)}
        />
      )}
      {needsInvite && (
        <Field
          label={t("auth.invite")}
          hint={t("auth.inviteHint")}
          name="invite"
          autoComplete="off"
          spellCheck={false}
          required
          value={code}
          onChange={(event) => setCode(event.target.value)}
        />
      )}
    </AuthForm>
  );
}
