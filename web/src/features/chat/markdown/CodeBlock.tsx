import type { Root, RootContent } from "hast";
import { memo, type ReactNode, useDeferredValue, useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { CopyButton } from "../../../ui/CopyButton";

/** Longer code is shown plain: colouring it would block typing. */
const LONGEST_HIGHLIGHTED = 30_000;

type Highlight = (code: string, language: string) => Root | null;
let loaded: Highlight | null = null;

function useHighlight(code: string, language: string): ReactNode {
  const [highlight, setHighlight] = useState<Highlight | null>(() => loaded);
  const wanted = language !== "" && code.length <= LONGEST_HIGHLIGHTED;
  useEffect(() => {
    if (!wanted || highlight) return;
    let current = true;
    import("./highlight").then(
      (module) => {
        loaded = module.highlight;
        if (current) setHighlight(() => module.highlight);
      },
      () => {}, // Without colours the code is still readable.
    );
    return () => {
      current = false;
    };
  }, [wanted, highlight]);
  const tree = wanted && highlight ? highlight(code, language) : null;
  return tree ? tree.children.map(toNode) : code;
}

function toNode(node: RootContent, index: number): ReactNode {
  if (node.type === "text") return node.value;
  if (node.type !== "element") return null;
  const names = node.properties["className"];
  return (
    <span key={index} className={Array.isArray(names) ? names.join(" ") : undefined}>
      {node.children.map(toNode)}
    </span>
  );
}

interface Props {
  code: string;
  /** As written after the fence; may be empty. */
  info: string;
}

export const CodeBlock = memo(function CodeBlock({ code, info }: Props) {
  const { t } = useTranslation();
  const language = info.trim().split(/\s+/)[0]?.toLowerCase() ?? "";
  const content = useHighlight(useDeferredValue(code), language);
  return (
    <figure className="code-block" data-testid="code-block">
      <figcaption>
        <span>{language || t("code.plain")}</span>
        <CopyButton text={code} label={t("code.copy")} withText />
      </figcaption>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a wide block must scroll by keyboard */}
      <pre tabIndex={0}>
        <code>{content}</code>
      </pre>
    </figure>
  );
});
