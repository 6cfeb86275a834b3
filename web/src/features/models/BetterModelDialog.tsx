import { useTranslation } from "react-i18next";
import { CopyButton } from "../../ui/CopyButton";
import { Dialog } from "../../ui/Dialog";

const WAYS = [
  { key: "ollama", command: "ollama pull llama3.2" },
  { key: "node", command: "jarvis serve --node http://192.168.1.20:11434" },
  { key: "file", command: "jarvis model add model.gguf --name my-model" },
] as const;

interface Props {
  open: boolean;
  onOpenChange: (open: boolean) => void;
}

/** How to get past the demonstration model. */
export function BetterModelDialog({ open, onOpenChange }: Props) {
  const { t } = useTranslation();
  return (
    <Dialog
      open={open}
      onOpenChange={onOpenChange}
      title={t("models.better")}
      description={t("models.betterText")}
    >
      <ol className="ways">
        {WAYS.map(({ key, command }) => (
          <li key={key}>
            <strong>{t(`models.way.${key}.title`)}</strong>
            <p>{t(`models.way.${key}.text`)}</p>
            <div className="command">
              <code>{command}</code>
              <CopyButton text={command} label={t("models.copyCommand")} />
            </div>
          </li>
        ))}
      </ol>
    </Dialog>
  );
}
