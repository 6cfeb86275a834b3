import { CircleAlert } from "lucide-react";
import { type FormEvent, type ReactNode, useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { type ApiProblem, toProblem } from "../../api/problem";

interface Props {
  title: string;
  intro: string;
  submitLabel: string;
  onSubmit: () => Promise<void>;
  children: ReactNode;
  footer?: ReactNode;
  testId: string;
}

/** The frame of a sign-in or sign-up form: one error in words, focus where it helps. */
export function AuthForm(props: Props) {
  const { t } = useTranslation();
  const [problem, setProblem] = useState<ApiProblem | null>(null);
  const [busy, setBusy] = useState(false);
  const alert = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (problem) alert.current?.focus();
  }, [problem]);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setProblem(null);
    try {
      await props.onSubmit();
    } catch (thrown) {
      setProblem(toProblem(thrown));
    } finally {
      setBusy(false);
    }
  };
  const words = problem && t(`problem.${problem.code}`, { defaultValue: problem.detail });
  return (
    <form className="auth-form" onSubmit={(event) => void submit(event)} data-testid={props.testId}>
      <h1>{props.title}</h1>
      <p className="auth-intro">{props.intro}</p>
      {problem && (
        <div ref={alert} className="notice notice-bad" role="alert" tabIndex={-1}>
          <CircleAlert aria-hidden size={17} />
          <p>{words || t("problem.internal")}</p>
        </div>
      )}
      {props.children}
      <button type="submit" className="button button-primary button-large" disabled={busy}>
        {busy ? t("common.moment") : props.submitLabel}
      </button>
      {props.footer && <p className="auth-footer">{props.footer}</p>}
    </form>
  );
}
