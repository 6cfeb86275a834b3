import { ChevronLeft, ChevronRight } from "lucide-react";
import { useTranslation } from "react-i18next";
import type { Siblings } from "./tree";

interface Props {
  siblings: Siblings;
  onChoose: (messageId: string) => void;
}

/** ‹ 2/3 ›: the other versions of a message. */
export function BranchPager({ siblings, onChoose }: Props) {
  const { t } = useTranslation();
  if (siblings.count < 2) return null;
  const { previous, next, position, count } = siblings;
  return (
    // biome-ignore lint/a11y/useSemanticElements: a fieldset is for form fields
    <span role="group" className="pager" aria-label={t("chat.versions")} data-testid="branch-pager">
      <button
        type="button"
        className="icon-button icon-button-small"
        aria-label={t("chat.previousVersion")}
        aria-disabled={previous === null}
        onClick={() => previous && onChoose(previous)}
      >
        <ChevronLeft aria-hidden size={14} />
      </button>
      <span>
        {position}/{count}
      </span>
      <button
        type="button"
        className="icon-button icon-button-small"
        aria-label={t("chat.nextVersion")}
        aria-disabled={next === null}
        onClick={() => next && onChoose(next)}
      >
        <ChevronRight aria-hidden size={14} />
      </button>
    </span>
  );
}
