import { Monitor, Moon, Sun } from "lucide-react";
import { useTranslation } from "react-i18next";
import { setTheme, THEMES, useTheme } from "./theme";

const ICONS = { system: Monitor, light: Sun, dark: Moon };

export function ThemeSwitch() {
  const { t } = useTranslation();
  const theme = useTheme();
  return (
    // biome-ignore lint/a11y/useSemanticElements: a fieldset is for form fields
    <div role="group" className="segmented" aria-label={t("settings.theme")}>
      {THEMES.map((each) => {
        const Icon = ICONS[each];
        return (
          <button
            key={each}
            type="button"
            aria-label={t(`settings.${each}`)}
            title={t(`settings.${each}`)}
            aria-pressed={theme === each}
            data-testid={`theme-${each}`}
            onClick={() => setTheme(each)}
          >
            <Icon aria-hidden size={15} />
          </button>
        );
      })}
    </div>
  );
}
