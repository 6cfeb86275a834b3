import { render, screen } from "@testing-library/react";
import { describe, expect, it } from "vitest";
import { decodeEntities } from "./entities";
import { safeHref } from "./links";
import { Markdown } from "./Markdown";

const show = (text: string, streaming = false) =>
  render(<Markdown text={text} streaming={streaming} />).container;

describe("Markdown from a model", () => {
  it("is drawn as elements", () => {
    const page = show("## Title\n\nSome **bold** and *soft* `code`.\n\n1. one\n2. two\n\n> said");
    expect(page.querySelector("h3")?.textContent).toBe("Title");
    expect(page.querySelector("strong")?.textContent).toBe("bold");
    expect(page.querySelector("em")?.textContent).toBe("soft");
    expect(page.querySelectorAll("ol > li")).toHaveLength(2);
    expect(page.querySelector("blockquote")?.textContent).toBe("said");
  });

  it("never becomes markup of its own", () => {
    const page = show(
      '<img src=x onerror="alert(1)">\n\nText <b>inline</b> <script>alert(1)</script>\n\n<div>block</div>',
    );
    expect(page.querySelector("img, b, script, div.prose div")).toBeNull();
    expect(page.textContent).toContain("<b>inline</b>");
    expect(page.textContent).toContain('onerror="alert(1)"');
  });

  it("opens safe links only, and apart", () => {
    const page = show(
      "[good](https://example.org/a) [bad](javascript:alert(1)) [worse](JaVaScRiPt&#58;alert(1)) [file](file:///etc/passwd) [data](data:text/html,x)",
    );
    const links = [...page.querySelectorAll("a")];
    expect(links.map((link) => link.href)).toEqual(["https://example.org/a"]);
    expect(links[0]?.rel).toContain("noopener");
    expect(links[0]?.target).toBe("_blank");
    expect(page.textContent).toContain("bad");
  });

  it("loads no image by itself", () => {
    const page = show("![a chart](https://tracker.example/pixel.png)");
    expect(page.querySelector("img")).toBeNull();
    expect(screen.getByRole("link").textContent).toBe("a chart (tracker.example)");
  });

  it("numbers headings without a gap, whatever the model chose", () => {
    const page = show("# A\n\n##### B\n\n# C");
    const levels = [...page.querySelectorAll("h3, h4, h5, h6")].map((each) => each.tagName);
    expect(levels).toEqual(["H3", "H4", "H3"]);
  });

  it("closes open ends while it is written, and not after", () => {
    expect(show("This is **bol", true).querySelector("strong")?.textContent).toBe("bol");
    expect(show("This is **bol").querySelector("strong")).toBeNull();
  });

  it("keeps code as it was written", () => {
    const page = show("```rust\nlet a = &b; // <i>\n```");
    expect(page.querySelector("pre")?.textContent).toBe("let a = &b; // <i>");
    expect(page.querySelector("figcaption")?.textContent).toContain("rust");
  });

  it("draws tables and task lists", () => {
    const page = show("| a | b |\n|---|--:|\n| 1 | 2 |\n\n- [x] done\n- [ ] open");
    expect(page.querySelectorAll("th")).toHaveLength(2);
    expect(page.querySelectorAll<HTMLElement>("td")[1]?.style.textAlign).toBe("right");
    const boxes = [...page.querySelectorAll<HTMLInputElement>("input[type=checkbox]")];
    expect(boxes.map((box) => box.checked)).toEqual([true, false]);
  });
});

describe("parts of it", () => {
  it("resolves character references once", () => {
    expect(decodeEntities("a &amp; b &#233; &#x1F389; &amp;lt; &unknown; &#0; &#xD800;")).toBe(
      "a & b é 🎉 &lt; &unknown; &#0; &#xD800;",
    );
  });

  it("lets only three kinds of address pass", () => {
    expect(safeHref("https://a.example/")).toBe("https://a.example/");
    expect(safeHref("mailto:a@b.example")).toBe("mailto:a@b.example");
    for (const bad of ["javascript:1", "data:,x", "vbscript:x", "/relative", "//host", ""]) {
      expect(safeHref(bad), bad).toBeNull();
    }
  });
});
