import { Check, Copy } from "lucide-react";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { copyText } from "./copy";

interface Props {
  text: string;
  label: string;
  /** Shows the words beside the icon. */
  withText?: boolean;
}

const SHOWN_MS = 1_600;

export function CopyButton({ text, label, withText = false }: Props) {
  const { t } = useTranslation();
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [copied]);
  const Icon = copied ? Check : Copy;
  return (
    <button
      type="button"
      className="icon-button icon-button-small"
      aria-label={copied ? t("code.copied") : label}
      title={label}
      onClick={async () => setCopied(await copyText(text))}
    >
      <Icon aria-hidden size={14} />
      {withText && <span>{copied ? t("code.copied") : t("code.copyShort")}</span>}
    </button>
  );
}
