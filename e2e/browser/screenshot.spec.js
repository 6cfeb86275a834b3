// The README's picture: UPDATE_SCREENSHOT=1 e2e/run browser
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Api, PASSWORD } from "./api.js";
import { Chat } from "./chat.js";
import { expect, test } from "./fixtures.js";

const SCREENSHOT = path.join(path.dirname(fileURLToPath(import.meta.url)), "../../docs/images/chat.png");

test("the README's picture", async ({ page, installation }) => {
  const chat = new Chat(page, await Api.register(installation.url, "ada@example.org"));
  await chat.signIn(installation.url, PASSWORD);
  for (const question of [
    "Write a short thank-you note to a neighbour.",
    "Make a checklist for a weekend of camping.",
    "Write a Python function that checks whether a word is a palindrome.",
  ]) {
    await page.getByTestId("new-chat").click();
    await chat.ask(question);
    await chat.endsAs("done");
  }
  fs.mkdirSync(path.dirname(SCREENSHOT), { recursive: true });
  await page.mouse.move(0, 0);
  await page.screenshot({ path: SCREENSHOT, animations: "disabled" });
  expect(fs.statSync(SCREENSHOT).size).toBeLessThan(200 * 1024);
});
