import type { MarkedToken, Token, Tokens } from "marked";
import { createElement, memo, type ReactNode, useMemo } from "react";
import { parseBlocks } from "./blocks";
import { CodeBlock } from "./CodeBlock";
import { renderInline } from "./inline";

interface Props {
  text: string;
  /** The text is still growing: its open ends are closed for display. */
  streaming?: boolean;
}

/** Markdown as React elements; a block renders again only when its own source changed. */
export const Markdown = memo(function Markdown({ text, streaming = false }: Props) {
  const blocks = useMemo(() => parseBlocks(text, streaming), [text, streaming]);
  const depths = useMemo(() => headingDepths(blocks), [blocks]);
  return (
    <div className="prose">
      {blocks.map((token, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: text only grows at its end
        <Block key={index} token={token} level={levelOf(token, depths)} />
      ))}
    </div>
  );
});

interface BlockProps {
  token: Token;
  /** Of a heading, within the page. */
  level?: number;
}

const Block = memo(
  function Block({ token, level = LOWEST_HEADING }: BlockProps) {
    return renderBlock(token as MarkedToken, level);
  },
  (before, after) =>
    before.token.raw === after.token.raw &&
    before.token.type === after.token.type &&
    before.level === after.level,
);

/** Each message stands under a heading of level 2. */
const FIRST_HEADING = 3;
const LOWEST_HEADING = 6;

function headingDepths(blocks: readonly Token[]): number[] {
  const depths = blocks.flatMap((token) => (token.type === "heading" ? [token["depth"]] : []));
  return [...new Set<number>(depths)].sort((a, b) => a - b);
}

/** Levels without a gap, whatever depths a model chose to use. */
function levelOf(token: Token, depths: readonly number[]): number {
  if (token.type !== "heading") return LOWEST_HEADING;
  return Math.min(LOWEST_HEADING, FIRST_HEADING + depths.indexOf(token["depth"]));
}

function renderBlocks(tokens: readonly Token[]): ReactNode {
  return tokens.map((token, index) => {
    // biome-ignore lint/suspicious/noArrayIndexKey: tokens have no other identity than their place
    return <Block key={index} token={token} />;
  });
}

function renderBlock(token: MarkedToken, level: number): ReactNode {
  switch (token.type) {
    case "paragraph":
      return <p>{renderInline(token.tokens)}</p>;
    case "heading":
      return createElement(`h${level}`, null, renderInline(token.tokens));
    case "code":
      return <CodeBlock code={token.text} info={token.lang ?? ""} />;
    case "blockquote":
      return <blockquote>{renderBlocks(token.tokens)}</blockquote>;
    case "list":
      return <List token={token} />;
    case "table":
      return <Table token={token} />;
    case "hr":
      return <hr />;
    case "html":
      return <p>{token.raw.trimEnd()}</p>;
    case "text":
      return token.tokens ? renderInline(token.tokens) : token.text;
    case "space":
    case "def":
      return null;
    default:
      return renderInline([token]);
  }
}

function List({ token }: { token: Tokens.List }) {
  const items = token.items.map((item, index) => (
    // biome-ignore lint/suspicious/noArrayIndexKey: tokens have no other identity than their place
    <li key={index} className={item.task ? "task" : undefined}>
      {renderBlocks(item.tokens)}
    </li>
  ));
  if (!token.ordered) return <ul>{items}</ul>;
  return <ol start={token.start === "" ? undefined : token.start}>{items}</ol>;
}

function Table({ token }: { token: Tokens.Table }) {
  const cells = (row: Tokens.TableCell[], Cell: "th" | "td") =>
    row.map((cell, index) => (
      // biome-ignore lint/suspicious/noArrayIndexKey: tokens have no other identity than their place
      <Cell key={index} style={cell.align ? { textAlign: cell.align } : undefined}>
        {renderInline(cell.tokens)}
      </Cell>
    ));
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a wide table must scroll by keyboard
    <div className="table" tabIndex={0}>
      <table>
        <thead>
          <tr>{cells(token.header, "th")}</tr>
        </thead>
        <tbody>
          {token.rows.map((row, index) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: tokens have no other identity than their place
            <tr key={index}>{cells(row, "td")}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
