import { useState } from "react";
import { useTranslation } from "react-i18next";
import type { Model } from "../../api/types";
import { BetterModelDialog } from "./BetterModelDialog";

/** The line under the composer: what answers, and that it may be wrong. */
export function DemoNotice({ model }: { model: Model | null }) {
  const { t } = useTranslation();
  const [open, setOpen] = useState(false);
  if (!model?.demonstration) return <p>{t("models.mayErr")}</p>;
  return (
    <p data-testid="demo-notice">
      {t("models.demoNotice")}{" "}
      <button type="button" className="link" onClick={() => setOpen(true)}>
        {t("models.better")}
      </button>
      <BetterModelDialog open={open} onOpenChange={setOpen} />
    </p>
  );
}
