// The official `ollama` package of npm against `jarvis engine` and `jarvis balancer`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Ollama } from "ollama";
import { describeTargets } from "../support/target.js";

const messages = [{ role: "user", content: "Say hello." }];
const options = { temperature: 0, num_predict: 24 };

const connect = (target) => new Ollama({ host: target.url, headers: target.headers });

describeTargets(connect, (at) => {
  async function collect(stream) {
    const parts = [];
    for await (const part of stream) parts.push(part);
    return parts;
  }

  test("chat", async () => {
    const answer = await at.client.chat({ model: at.models.chat, messages, options });
    assert.equal(answer.message.role, "assistant");
    assert.ok(answer.message.content.trim());
    assert.ok(answer.done && answer.eval_count > 0 && answer.eval_count <= 24);
  });

  test("streamed chat", async () => {
    const parts = await collect(await at.client.chat({ model: at.models.chat, messages, options, stream: true }));
    assert.ok(parts.length > 2);
    assert.ok(
      parts
        .map((part) => part.message.content)
        .join("")
        .trim(),
    );
    assert.deepEqual(
      parts.map((part) => part.done),
      [...parts.slice(1).map(() => false), true],
    );
  });

  test("a stream that is aborted frees the server for the next question", async () => {
    const long = [{ role: "user", content: "Tell a very long story." }];
    const stream = await at.client.chat({
      model: at.models.chat,
      messages: long,
      stream: true,
      options: { num_predict: 4000 },
    });
    await assert.rejects(
      async () => {
        for await (const part of stream) if (part.message.content) stream.abort();
      },
      { name: "AbortError" },
    );
    const answer = await at.client.chat({ model: at.models.chat, messages, options });
    assert.ok(answer.message.content.trim());
  });

  test("generate, streamed and whole", async () => {
    const prompt = "The capital of France is";
    const whole = await at.client.generate({ model: at.models.chat, prompt, options });
    assert.ok(whole.response.trim());
    const parts = await collect(await at.client.generate({ model: at.models.chat, prompt, options, stream: true }));
    assert.ok(
      parts
        .map((part) => part.response)
        .join("")
        .trim(),
    );
    assert.ok(parts.at(-1).done);
  });

  test("embed", async () => {
    const { embeddings } = await at.client.embed({ model: at.models.embed, input: ["a cat", "a dog"] });
    assert.equal(embeddings.length, 2);
    for (const vector of embeddings) {
      assert.equal(vector.length, 384);
      assert.ok(Math.abs(Math.hypot(...vector) - 1) < 1e-3);
    }
  });

  test("a JSON schema binds the answer", async () => {
    const format = {
      type: "object",
      properties: { age: { type: "integer", minimum: 0, maximum: 150 } },
      required: ["age"],
    };
    const question = [{ role: "user", content: "Bob is 41 years old. Give his age as JSON." }];
    const answer = await at.client.chat({
      model: at.models.chat,
      messages: question,
      format,
      options: { temperature: 0, num_predict: 60 },
    });
    const value = JSON.parse(answer.message.content);
    assert.deepEqual(Object.keys(value), ["age"]);
    assert.ok(Number.isInteger(value.age));
  });

  test("list, show, ps", async () => {
    const listed = (await at.client.list()).models.map((model) => model.name);
    assert.ok(listed.includes(at.models.chat) && listed.includes(at.models.embed));
    const shown = await at.client.show({ model: at.models.chat });
    assert.equal(shown.model_info["general.architecture"], "llama");
    await at.client.chat({ model: at.models.chat, messages, options });
    const running = (await at.client.ps()).models.find((model) => model.name === at.models.chat);
    assert.ok(running.size > 0);
  });

  test("copy, create, delete", async () => {
    await at.client.copy({ source: at.models.chat, destination: "js-copy" });
    const steps = await collect(
      await at.client.create({ model: "js-made", from: at.models.chat, system: "Be brief.", stream: true }),
    );
    assert.equal(steps.at(-1).status, "success");
    assert.equal((await at.client.show({ model: "js-made" })).system, "Be brief.");
    await at.client.delete({ model: "js-copy" });
    await at.client.delete({ model: "js-made" });
    const left = (await at.client.list()).models.map((model) => model.name);
    assert.ok(left.includes(at.models.chat) && !left.some((name) => name.startsWith("js-")));
  });

  test("an unknown model is the client's own error", async () => {
    for (const call of [
      () => at.client.chat({ model: "nobody", messages }),
      () => at.client.chat({ model: "nobody", messages, stream: true }),
      () => at.client.embed({ model: "nobody", input: "x" }),
      () => at.client.show({ model: "nobody" }),
    ]) {
      await assert.rejects(call, (error) => {
        assert.equal(error.name, "ResponseError");
        assert.equal(error.status_code, 404);
        assert.match(error.error, /nobody/);
        return true;
      });
    }
  });
});
