import { Code2, Feather, Lightbulb, ListChecks } from "lucide-react";
import { useTranslation } from "react-i18next";

const SUGGESTIONS = [
  { key: "explain", icon: Lightbulb },
  { key: "write", icon: Feather },
  { key: "code", icon: Code2 },
  { key: "plan", icon: ListChecks },
] as const;

function partOfDay(hour: number): "morning" | "afternoon" | "evening" {
  if (hour >= 5 && hour < 12) return "morning";
  return hour >= 12 && hour < 18 ? "afternoon" : "evening";
}

export function EmptyState({ onChoose }: { onChoose: (text: string) => void }) {
  const { t } = useTranslation();
  return (
    <div className="empty" data-testid="empty-state">
      <h1>
        {t(`empty.${partOfDay(new Date().getHours())}`)}
        <span>{t("empty.question")}</span>
      </h1>
      <ul className="suggestions" aria-label={t("empty.suggestions")}>
        {SUGGESTIONS.map(({ key, icon: Icon }) => (
          <li key={key}>
            <button type="button" onClick={() => onChoose(t(`empty.${key}.prompt`))}>
              <Icon aria-hidden size={18} />
              <span>
                <strong>{t(`empty.${key}.title`)}</strong>
                <span>{t(`empty.${key}.prompt`)}</span>
              </span>
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
