/** Markdown as words to be read aloud: no marks, no code. */
export function plainText(markdown: string, codeWord: string): string {
  return markdown
    .replace(/(```|~~~)[\s\S]*?(\1|$)/g, ` ${codeWord} `)
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/^\s{0,3}(#{1,6}|>|[-*+]|\d+\.)\s+/gm, "")
    .replace(/[*_~`|]+/g, "")
    .replace(/\s+/g, " ")
    .trim();
}
