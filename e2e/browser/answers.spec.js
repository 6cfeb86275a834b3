// The life of an answer in the browser: it grows, survives a reload, is stopped, is made again.
import { LONG } from "./chat.js";
import { expect, test } from "./fixtures.js";

test("an answer grows while it is written and is whole in the end", async ({ chat }) => {
  await chat.ask(LONG);
  const seen = [await chat.growsTo(0)];
  for (let i = 0; i < 4; i += 1) seen.push(await chat.growsTo(seen.at(-1).length));
  await chat.stopButton.waitFor();
  await chat.endsAs("done");
  await chat.checkWhole(seen.at(-2).trimEnd());
  await expect(chat.page).toHaveURL(/\/c\/[0-9a-f-]{36}$/);
  await expect(chat.page.getByTestId("conversation")).toHaveCount(1);
});

test("a reload in mid-answer loses nothing and doubles nothing", async ({ chat }) => {
  await chat.ask(LONG);
  const before = await chat.growsTo(40);
  const reloaded = Date.now();
  await chat.page.reload();
  await chat.endsAs("done");
  await expect(chat.answers).toHaveCount(1);
  const kept = await chat.checkWhole(before.trimEnd());
  const { finished_at } = await chat.api.call("GET", `/generations/${kept.generation.id}`);
  expect(Date.parse(finished_at), "it was in mid-answer").toBeGreaterThan(reloaded);
});

test("an answer goes on while its page is closed", async ({ chat, context, jarvis }) => {
  await chat.ask(LONG);
  const before = await chat.growsTo(100);
  const url = chat.page.url();
  await chat.page.close();
  chat.page = await context.newPage();
  await chat.page.goto(url);
  chat.answers = chat.page.getByTestId("message-assistant");
  await chat.endsAs("done");
  await chat.checkWhole(before.trimEnd());
  expect(url.startsWith(jarvis.url)).toBe(true);
});

test("a stop keeps what was written", async ({ chat }) => {
  await chat.ask(LONG);
  const before = await chat.growsTo(120);
  await chat.stopButton.click();
  await chat.endsAs("stopped");
  await expect(chat.answer).toContainText("Stopped by you.");
  const kept = await chat.checkWhole(before.trimEnd());
  expect(kept.generation.status).toBe("stopped");
  await chat.page.reload();
  await chat.endsAs("stopped");
  await chat.checkWhole(before.trimEnd());
});

test("a second answer stands beside the first", async ({ chat }) => {
  await chat.ask("Name three colours.");
  await chat.endsAs("done");
  const first = await chat.copied();
  const firstId = await chat.answer.getAttribute("data-message-id");
  await chat.answer.getByTestId("regenerate").click();
  await expect(chat.answer).not.toHaveAttribute("data-message-id", firstId);
  await chat.endsAs("done");
  await chat.checkWhole();
  const pager = chat.answer.getByTestId("branch-pager");
  await expect(pager).toHaveText("2/2");
  await expect(chat.answers).toHaveCount(1);
  await pager.getByRole("button", { name: "Previous version" }).click();
  await expect(chat.answer).toHaveAttribute("data-message-id", firstId);
  await expect(chat.answer.getByTestId("branch-pager")).toHaveText("1/2");
  expect(await chat.copied()).toBe(first);
  await chat.page.reload();
  await expect(chat.answer.getByTestId("branch-pager")).toContainText("/2");
});

test("an edited question begins a new branch and keeps the old one", async ({ chat }) => {
  await chat.ask("Name a fruit.");
  await chat.endsAs("done");
  const question = chat.page.getByTestId("message-user");
  await question.hover();
  await question.getByRole("button", { name: "Edit message" }).click();
  await question.getByLabel("Edited message").fill("Name a vegetable.");
  await question.getByRole("button", { name: "Send" }).click();
  await expect(question).toContainText("Name a vegetable.");
  await chat.endsAs("done");
  await question.getByRole("button", { name: "Previous version" }).click();
  await expect(question).toContainText("Name a fruit.");
});

test("a conversation goes on from what was said", async ({ chat }) => {
  await chat.ask("My name is Ada.");
  await chat.endsAs("done");
  await chat.ask("Say one more thing.");
  await expect(chat.answers).toHaveCount(2);
  await chat.endsAs("done");
  await expect(chat.page.getByTestId("message-user")).toHaveCount(2);
  const conversation = new URL(chat.page.url()).pathname.split("/").at(-1);
  const tree = await chat.api.messages(conversation);
  expect(tree.map((message) => message.role)).toEqual(["user", "assistant", "user", "assistant"]);
  expect(tree.slice(1).map((message) => message.parent_id)).toEqual(
    tree.slice(0, -1).map((message) => message.id),
  );
});
