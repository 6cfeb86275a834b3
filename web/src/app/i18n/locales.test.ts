import { describe, expect, it } from "vitest";
import en from "./en.json";
import fr from "./fr.json";

type Tree = { [key: string]: string | Tree };

function flatten(tree: Tree, prefix = ""): Map<string, string> {
  const flat = new Map<string, string>();
  for (const [key, value] of Object.entries(tree)) {
    if (typeof value === "string") flat.set(prefix + key, value);
    else for (const [inner, text] of flatten(value, `${prefix}${key}.`)) flat.set(inner, text);
  }
  return flat;
}

const holes = (text: string) => [...text.matchAll(/\{\{(\w+)\}\}/g)].map((hit) => hit[1]).sort();
const english = flatten(en);
const french = flatten(fr);

describe("the two languages", () => {
  it("say the same things", () => {
    // French has a plural form of its own for millions.
    const keys = [...french.keys()].filter((key) => !key.endsWith("_many"));
    expect(keys).toEqual([...english.keys()]);
  });

  it("fill the same holes", () => {
    for (const [key, text] of french) {
      const model = english.get(key.replace(/_many$/, "_other")) ?? "";
      expect(holes(text), key).toEqual(holes(model));
    }
  });
});
