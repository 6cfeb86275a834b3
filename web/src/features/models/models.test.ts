import { describe, expect, it } from "vitest";
import type { Model } from "../../api/types";
import { chosenModel } from "./useModelChoice";

const model = (name: string, extra: Partial<Model> = {}): Model => ({
  name,
  digest: name,
  size: 1,
  family: "llama",
  parameter_size: "1B",
  quantization: "Q4",
  capabilities: ["completion"],
  demonstration: false,
  loaded: false,
  default: false,
  nodes: ["embedded"],
  ...extra,
});
const models = [
  model("minilm", { capabilities: ["embedding"], default: true }),
  model("small"),
  model("large", { default: true }),
];

describe("the model that answers", () => {
  it("is the conversation's, then the last chosen, then the default", () => {
    expect(chosenModel(models, "small", "large")?.name).toBe("small");
    expect(chosenModel(models, null, "small")?.name).toBe("small");
    expect(chosenModel(models, null, null)?.name).toBe("large");
  });

  it("is never one that is gone or that only embeds", () => {
    expect(chosenModel(models, "gone", "minilm")?.name).toBe("large");
    expect(chosenModel([], "small", "small")).toBeNull();
  });
});
