// The README's picture: UPDATE_SCREENSHOT=1 e2e/run browser
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "./fixtures.js";

const SCREENSHOT = path.join(path.dirname(fileURLToPath(import.meta.url)), "../../docs/images/chat.png");

test("the README's picture", async ({ chat, page }) => {
  await page.clock.setFixedTime(new Date("2026-11-22T10:00:00"));
  await chat.ask("Write a short thank-you note to a neighbour.");
  await chat.endsAs("done");
  await page.getByTestId("new-chat").click();
  await chat.ask("Explain how a heat pump works, in plain words, with a short list.");
  await chat.endsAs("done");
  fs.mkdirSync(path.dirname(SCREENSHOT), { recursive: true });
  await page.screenshot({ path: SCREENSHOT, animations: "disabled" });
  expect(fs.statSync(SCREENSHOT).size).toBeLessThan(200 * 1024);
});
