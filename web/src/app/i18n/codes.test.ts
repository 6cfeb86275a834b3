import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import en from "./en.json";
import fr from "./fr.json";

const CRATES = join(process.cwd(), "../crates");

/** The places in the server's source where a code is given. */
const GIVEN = [
  /StatusCode::[A-Z_]+,\s*"([a-z_]+)"/g,
  /Problem::unauthorized\(\s*"([a-z_]+)"/g,
  /\b(?:error|break_off)\(\s*"([a-z_]+)"/g,
  /\bcode: "([a-z_]+)"/g,
  /\b\w+Error::\w+(?: \{ \.\. \})? => "([a-z_]+)"/g,
  /const (?:WRITER_LOST|HANDED_OVER): &str = "([a-z_]+)"/g,
];

function sources(folder: string): string[] {
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" });
  return names.filter((name) => name.endsWith(".rs")).map((name) => join(folder, name));
}

function codes(): string[] {
  const files = [
    ...sources(join(CRATES, "api/src")),
    ...sources(join(CRATES, "store/src/answers")),
  ];
  const found = files.flatMap((file) => {
    const text = readFileSync(file, "utf8");
    return GIVEN.flatMap((form) => [...text.matchAll(form)].map((hit) => hit[1] ?? ""));
  });
  // The errors of a chat name themselves.
  const chat = readFileSync(join(CRATES, "balancer/src/error.rs"), "utf8");
  found.push(...[...chat.matchAll(/Self::\w+.* => "([a-z_]+)"/g)].map((hit) => hit[1] ?? ""));
  return [...new Set(found)].sort();
}

describe("the codes of the server's problems", () => {
  const known = codes();

  it("are found where they are given", () => {
    for (const code of ["unauthorized", "storage_full", "node_lost", "text_invalid", "writer_lost"])
      expect(known).toContain(code);
  });

  it.each(Object.entries({ en, fr }))("have a text in %s", (_, words) => {
    const texts: Record<string, string> = words.problem;
    expect(known.filter((code) => !texts[code])).toEqual([]);
  });
});
