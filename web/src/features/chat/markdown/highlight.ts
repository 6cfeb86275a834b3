import type { Root } from "hast";
import { common, createLowlight } from "lowlight";

// Loaded on the first code block, not with the page.
const lowlight = createLowlight(common);

/** The code as a tree of classed spans; null for a language that is not known. */
export function highlight(code: string, language: string): Root | null {
  if (!lowlight.registered(language)) return null;
  return lowlight.highlight(language, code);
}
