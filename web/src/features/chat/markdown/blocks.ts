import { lexer, type Token } from "marked";
import remend from "remend";

/** Closes what an unfinished text has left open, so that `**bol` shows bold and not asterisks. */
const COMPLETE = { linkMode: "text-only", images: false, htmlTags: false, katex: false } as const;

/** The top-level blocks of a text. Blank space between them carries nothing. */
export function parseBlocks(text: string, streaming: boolean): Token[] {
  const source = streaming ? remend(text, COMPLETE) : text;
  return lexer(source, { gfm: true }).filter((token) => token.type !== "space");
}
