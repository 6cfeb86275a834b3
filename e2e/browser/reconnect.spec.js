// The server dies in mid-answer; the page stays.
import { Api, PASSWORD } from "./api.js";
import { Chat, LONG } from "./chat.js";
import { expect, test, watchConsole } from "./fixtures.js";

test("a killed server comes back and the page goes on without a reload", async ({ page, jarvis }) => {
  const complaints = watchConsole(page);
  const chat = new Chat(page, await Api.register(jarvis.url, "kill@example.org"));
  await chat.signIn(jarvis.url, PASSWORD);
  await chat.mark();
  await chat.ask(LONG);
  const before = await chat.growsTo(150);
  await jarvis.kill();
  const banner = page.getByTestId("connection-banner");
  await expect(banner).toHaveAttribute("data-trouble", "reconnecting");
  expect((await chat.drawn()).startsWith(before.trimEnd()), "the text stays while the server is away").toBe(
    true,
  );
  await jarvis.start();
  await chat.endsAs("done");
  await expect(banner).toHaveCount(0);
  await chat.checkMark();
  await expect(chat.answers).toHaveCount(1);
  await chat.checkWhole(before.trimEnd());
  expect(complaints).toEqual([]);
});

test("a question asked while the server is away is sent when it is back", async ({ page, jarvis }) => {
  const chat = new Chat(page, await Api.register(jarvis.url, "away@example.org"));
  await chat.signIn(jarvis.url, PASSWORD);
  await chat.mark();
  await jarvis.kill();
  await expect(page.getByTestId("connection-banner")).toBeVisible();
  await chat.ask("Name a fruit.");
  await expect(page.getByText("Waiting for the connection.")).toBeVisible();
  await jarvis.start();
  await chat.endsAs("done");
  await chat.checkMark();
  await expect(page.getByTestId("message-user")).toHaveCount(1);
  await chat.checkWhole();
});

test("a question asked while the server is away outlives a reload", async ({ page, jarvis }) => {
  const chat = new Chat(page, await Api.register(jarvis.url, "reload@example.org"));
  await chat.signIn(jarvis.url, PASSWORD);
  await jarvis.kill();
  await expect(page.getByTestId("connection-banner")).toBeVisible();
  await chat.ask("Name a colour.");
  await expect(page.getByText("Waiting for the connection.")).toBeVisible();
  // Nobody is there who could answer it with a page.
  await page.reload().catch(() => undefined);
  await jarvis.start();
  // The browser's own page of the failed reload may still be on its way.
  await expect(() => page.goto(jarvis.url)).toPass();
  await chat.endsAs("done");
  await expect(page.getByTestId("message-user")).toHaveCount(1);
  await expect(page).toHaveURL(/\/c\//);
  await chat.checkWhole();
});
