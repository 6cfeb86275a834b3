import type { MarkedToken, Token } from "marked";
import type { ReactNode } from "react";
import { decodeEntities } from "./entities";
import { safeHref } from "./links";

/** Inline tokens as elements. HTML is text like any other: nothing is ever parsed as markup. */
export function renderInline(tokens: readonly Token[] | undefined): ReactNode {
  return tokens?.map((token, index) => {
    // biome-ignore lint/suspicious/noArrayIndexKey: tokens have no other identity than their place
    return <Inline key={index} token={token as MarkedToken} />;
  });
}

function Inline({ token }: { token: MarkedToken }): ReactNode {
  switch (token.type) {
    case "text":
      return token.tokens ? renderInline(token.tokens) : decodeEntities(token.text);
    case "escape":
      return token.text;
    case "strong":
      return <strong>{renderInline(token.tokens)}</strong>;
    case "em":
      return <em>{renderInline(token.tokens)}</em>;
    case "del":
      return <del>{renderInline(token.tokens)}</del>;
    case "codespan":
      return <code>{token.text}</code>;
    case "br":
      return <br />;
    case "link":
      return <Anchor href={token.href}>{renderInline(token.tokens)}</Anchor>;
    case "image":
      return <RemoteImage href={token.href} alt={token.text} />;
    case "checkbox":
      return <input type="checkbox" checked={token.checked} disabled aria-label={token.raw} />;
    default:
      return token.raw;
  }
}

function Anchor({ href, children }: { href: string; children: ReactNode }) {
  const safe = safeHref(decodeEntities(href));
  if (!safe) return <span>{children}</span>;
  return (
    <a href={safe} target="_blank" rel="noopener noreferrer nofollow">
      {children}
    </a>
  );
}

/** Never loaded by itself: an address in an answer could tell its host who reads it. */
function RemoteImage({ href, alt }: { href: string; alt: string }) {
  const safe = safeHref(href);
  const label = alt || href;
  if (!safe) return <span>{label}</span>;
  return (
    <a
      className="image-link"
      href={safe}
      target="_blank"
      rel="noopener noreferrer nofollow"
      title={safe}
    >
      {label} <span>({new URL(safe).hostname || safe})</span>
    </a>
  );
}
