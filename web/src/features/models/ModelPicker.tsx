import { ChevronDown, Sparkles } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import type { Model } from "../../api/types";
import { Menu, MenuItem, MenuLabel, MenuRadio, MenuSeparator } from "../../ui/Menu";
import { BetterModelDialog } from "./BetterModelDialog";

interface Props {
  models: readonly Model[];
  model: Model | null;
  loading: boolean;
  onChoose: (name: string) => void;
}

export function ModelPicker({ models, model, loading, onChoose }: Props) {
  const { t } = useTranslation();
  const [helping, setHelping] = useState(false);
  const usable = models.filter((each) => each.capabilities.includes("completion"));
  const current = model?.name ?? t(loading ? "common.loading" : "models.none");
  return (
    <>
      <Menu
        label={t("models.choose")}
        align="start"
        trigger={
          <button type="button" className="model-button" data-testid="model-picker">
            <span className="sr-only">{t("models.current")}</span>
            <span className="truncate">{shortName(current)}</span>
            {model?.demonstration && (
              <span className="badge">
                <span className="sm:hidden">{t("models.demoShort")}</span>
                <span className="hidden sm:inline">{t("models.demo")}</span>
              </span>
            )}
            <ChevronDown aria-hidden size={15} />
          </button>
        }
      >
        <MenuLabel>{t("models.choose")}</MenuLabel>
        <MenuRadio
          label={t("models.choose")}
          value={model?.name ?? ""}
          onChange={onChoose}
          options={usable.map((each) => ({ value: each.name, label: <Entry model={each} /> }))}
        />
        {usable.length === 0 && <p className="quiet-note px-3">{t("models.noneHint")}</p>}
        <MenuSeparator />
        <MenuItem icon={<Sparkles aria-hidden size={16} />} onSelect={() => setHelping(true)}>
          {t("models.better")}
        </MenuItem>
      </Menu>
      <BetterModelDialog open={helping} onOpenChange={setHelping} />
    </>
  );
}

function Entry({ model }: { model: Model }) {
  const { t } = useTranslation();
  const facts = [
    model.parameter_size,
    model.quantization,
    formatSize(model.size),
    model.loaded ? t("models.loaded") : null,
  ].filter(Boolean);
  return (
    <span className="model-entry">
      <span>
        <span className="truncate">{model.name}</span>
        {model.demonstration && <span className="badge">{t("models.demo")}</span>}
      </span>
      <small>{facts.join(" · ")}</small>
    </span>
  );
}

function shortName(name: string): string {
  return name.replace(/:latest$/, "");
}

function formatSize(bytes: number): string | null {
  if (bytes <= 0) return null;
  const gigabytes = bytes / 1e9;
  return gigabytes >= 1 ? `${gigabytes.toFixed(1)} GB` : `${Math.round(bytes / 1e6)} MB`;
}
