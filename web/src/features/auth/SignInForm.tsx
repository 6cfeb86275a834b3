import { type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";
import { unwrap } from "../../api/client";
import { useServices } from "../../api/services";
import { Field } from "../../ui/Field";
import { AuthForm } from "./AuthForm";

export function SignInForm({ footer }: { footer: ReactNode }) {
  const { t } = useTranslation();
  const { api, session } = useServices();
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const signIn = async () => {
    const body = { email: email.trim(), password };
    session.adopt(await unwrap(api.POST("/api/v1/auth/login", { body })));
  };
  return (
    <AuthForm
      title={t("auth.signInTitle")}
      intro={t("auth.signInIntro")}
      submitLabel={t("auth.signIn")}
      onSubmit={signIn}
      footer={footer}
      testId="sign-in-form"
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
        type="password"
        name="password"
        autoComplete="current-password"
        required
        value={password}
        onChange={(event) => setPassword(event.target.value)}
      />
    </AuthForm>
  );
}
