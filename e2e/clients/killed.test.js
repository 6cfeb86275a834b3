// The official clients of npm read through a balancer while its engines are killed and started again: they do not notice.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Ollama } from "ollama";
import OpenAI from "openai";
import { modelNames, waitFor } from "../support/jarvis.js";
import { Target } from "../support/target.js";

const LIMIT = 120;
const QUESTION = "Write a very long story about a lighthouse keeper and the sea. Tell it chapter by chapter, in detail.";
const messages = [{ role: "user", content: QUESTION }];

// The pieces of an answer; the last has its end.
const clients = {
  async *ollama(url, model) {
    const options = { temperature: 0, num_predict: LIMIT };
    for await (const part of await new Ollama({ host: url }).chat({ model, messages, options, stream: true })) {
      const { done, done_reason, prompt_eval_count, eval_count } = part;
      yield { text: part.message.content, end: done && [done_reason, prompt_eval_count, eval_count] };
    }
  },

  async *openai(url, model) {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "unused", maxRetries: 0 });
    const stream = await client.chat.completions.create({
      model,
      messages,
      temperature: 0,
      max_tokens: LIMIT,
      stream: true,
      stream_options: { include_usage: true },
    });
    let reason;
    for await (const { choices, usage } of stream) {
      reason = choices[0]?.finish_reason ?? reason;
      const end = usage && [reason, usage.prompt_tokens, usage.completion_tokens];
      yield { text: choices[0]?.delta.content ?? "", end };
    }
  },
};

/** The text and its ends. Once more than 100 characters are there, `act` is called. */
async function read(pieces, act) {
  const answer = { text: "", ends: [] };
  for await (const { text, end } of pieces) {
    answer.text += text;
    if (end) answer.ends.push(end);
    if (act && answer.text.length > 100) {
      await act();
      act = undefined;
    }
  }
  assert.ok(!act, "the answer was over before anything could happen to it");
  return answer;
}

describe("while engines are killed", () => {
  let target;
  let model;
  before(async () => {
    // Engines of one slot: the same question has the same answer, character for character.
    target = await new Target("balancer", "--parallel", "1", "--no-prefix-reuse").start();
    model = (await modelNames(target.url)).chat;
  });
  after(() => target.end());

  const nodes = async () => (await (await fetch(`${target.url}/health`)).json()).nodes;
  const allUp = () => waitFor(async () => (await nodes()).every((node) => node.up), "both engines");
  async function killed() {
    const [{ name }] = (await nodes()).filter((node) => node.active_connections > 0);
    const engine = target.engines.find((engine) => engine.address === name);
    await engine.kill();
    return engine;
  }

  for (const [name, ask] of Object.entries(clients))
    test(`${name} does not notice, twice`, async (context) => {
      try {
        const whole = await read(ask(target.engines[0].url, model));
        assert.deepEqual([whole.ends.length, whole.ends[0][0], whole.ends[0][2]], [1, "length", LIMIT]);
        for (let round = 0; round < 2; round++) {
          await allUp();
          let engine;
          const answer = await read(ask(target.url, model), async () => {
            engine = await killed();
          });
          assert.deepEqual(answer, whole);
          await engine.start();
        }
      } catch (error) {
        context.diagnostic(target.log);
        throw error;
      }
    });
});
