// The official `openai` package of npm against `jarvis engine` and `jarvis balancer`.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { describeTargets } from "../support/target.js";

const messages = [{ role: "user", content: "Say hello." }];

const connect = (target) => new OpenAI({ baseURL: `${target.url}/v1`, apiKey: "unused", maxRetries: 0 });

describeTargets(connect, (at) => {
  test("chat", async () => {
    const answer = await at.client.chat.completions.create({
      model: at.models.chat,
      messages,
      max_tokens: 24,
      temperature: 0,
    });
    assert.equal(answer.object, "chat.completion");
    assert.ok(answer.choices[0].message.content.trim());
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  });

  test("streamed chat with usage", async () => {
    const stream = await at.client.chat.completions.create({
      model: at.models.chat,
      messages,
      max_tokens: 24,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    let usage = null;
    const ids = new Set();
    for await (const chunk of stream) {
      ids.add(chunk.id);
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.ok(text.trim());
    assert.equal(ids.size, 1);
    assert.ok(usage.completion_tokens > 0);
  });

  test("the client's own stream helper reads the same", async () => {
    const runner = at.client.chat.completions.stream({
      model: at.models.chat,
      messages,
      max_tokens: 24,
      temperature: 0,
    });
    const seen = [];
    runner.on("content", (delta) => seen.push(delta));
    const final = await runner.finalChatCompletion();
    assert.equal(seen.join(""), final.choices[0].message.content);
  });

  test("a JSON schema binds the answer", async () => {
    const schema = {
      type: "object",
      properties: { age: { type: "integer", minimum: 0, maximum: 150 } },
      required: ["age"],
      additionalProperties: false,
    };
    const answer = await at.client.chat.completions.create({
      model: at.models.chat,
      messages: [{ role: "user", content: "Bob is 41 years old. Give his age." }],
      max_tokens: 60,
      temperature: 0,
      response_format: { type: "json_schema", json_schema: { name: "age", schema, strict: true } },
    });
    assert.ok(Number.isInteger(JSON.parse(answer.choices[0].message.content).age));
  });

  test("completions, streamed and whole", async () => {
    const body = { model: at.models.chat, prompt: "Once upon a time", max_tokens: 12, temperature: 0 };
    assert.ok((await at.client.completions.create(body)).choices[0].text.trim());
    let text = "";
    for await (const part of await at.client.completions.create({ ...body, stream: true }))
      text += part.choices[0]?.text ?? "";
    assert.ok(text.trim());
  });

  test("embeddings", async () => {
    const { data } = await at.client.embeddings.create({ model: at.models.embed, input: ["a cat", "a dog"] });
    assert.deepEqual(
      data.map((item) => item.index),
      [0, 1],
    );
    for (const { embedding } of data) {
      assert.equal(embedding.length, 384);
      assert.ok(Math.abs(Math.hypot(...embedding) - 1) < 1e-3);
    }
  });

  test("models", async () => {
    const listed = [];
    for await (const model of at.client.models.list()) listed.push(model.id);
    assert.ok(listed.includes(at.models.chat) && listed.includes(at.models.embed));
  });

  test("an unknown model is the client's own error", async () => {
    for (const call of [
      () => at.client.chat.completions.create({ model: "nobody", messages }),
      () => at.client.chat.completions.create({ model: "nobody", messages, stream: true }),
      () => at.client.embeddings.create({ model: "nobody", input: "x" }),
    ]) {
      await assert.rejects(call, (error) => {
        assert.ok(error instanceof OpenAI.NotFoundError, String(error));
        assert.equal(error.status, 404);
        assert.match(error.message, /nobody/);
        return true;
      });
    }
  });
});
