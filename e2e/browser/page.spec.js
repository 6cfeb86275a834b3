// Everything around the answers: accounts, languages, themes, accessibility.
import { checkAccessible } from "./axe.js";
import { expect, test, watchConsole } from "./fixtures.js";

test("the first account is made in the browser, signs out and in again", async ({ page, installation }) => {
  const complaints = watchConsole(page);
  await page.goto(installation.url);
  await expect(page.getByRole("heading", { name: "Set up Jarvis" })).toBeVisible();
  await page.getByLabel("Email").fill("grace@example.org");
  await page.getByLabel("Password").fill("correct-horse-battery");
  await page.getByRole("button", { name: "Create administrator" }).click();
  await expect(page.getByTestId("empty-state")).toBeVisible();
  await page.getByTestId("account-menu").click();
  await page.getByTestId("sign-out").click();
  await expect(page.getByTestId("sign-in-form")).toBeVisible();
  await page.getByLabel("Email").fill("grace@example.org");
  await page.getByLabel("Password").fill("wrong-password");
  await page.getByTestId("sign-in-form").getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("alert")).toContainText("The email or the password is wrong.");
  await page.getByLabel("Password").fill("correct-horse-battery");
  await page.getByTestId("sign-in-form").getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByTestId("empty-state")).toBeVisible();
  await page.reload();
  await expect(page.getByTestId("composer"), "a reload stays signed in").toBeVisible();
  expect(complaints.filter((line) => !line.includes("/api/v1/auth/"))).toEqual([]);
});

test("language and theme are switched and remembered", async ({ chat, page }) => {
  await chat.openSettings();
  await page.getByTestId("language-fr").click();
  await expect(page.locator("html")).toHaveAttribute("lang", "fr");
  await expect(page.getByTestId("new-chat")).toHaveText("Nouvelle conversation");
  const light = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.getByTestId("theme-dark").click();
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await expect.poll(background).not.toBe(light);
  const dark = await background();
  await page.reload();
  await expect(page.getByTestId("new-chat")).toHaveText("Nouvelle conversation");
  expect(await background()).toBe(dark);
  await chat.openSettings();
  await page.getByTestId("language-en").click();
  await page.getByTestId("theme-light").click();
  await expect(page.getByTestId("new-chat")).toHaveText("New chat");
  await expect.poll(background).toBe(light);
});

test("sign-in and chat are accessible, in both themes", async ({ chat, page, browser, jarvis }) => {
  await chat.ask("Write a Python function that adds two numbers, and explain it in a list.");
  await chat.endsAs("done");
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await checkAccessible(page);
    await page.getByTestId("model-picker").click();
    await page.getByRole("menu").waitFor();
    await checkAccessible(page);
    await page.keyboard.press("Escape");
    const stranger = await browser.newPage({ colorScheme });
    await stranger.goto(`${jarvis.url}/sign-in`);
    await stranger.getByTestId("sign-in-form").waitFor();
    await checkAccessible(stranger);
    await stranger.close();
  }
  await page.getByTestId("new-chat").click();
  await page.getByTestId("empty-state").waitFor();
  await checkAccessible(page);
});

test("conversations are renamed, found and deleted", async ({ chat, page }) => {
  await chat.ask("Name a fruit.");
  await chat.endsAs("done");
  const item = page.getByTestId("conversation");
  await item.hover();
  await item.getByRole("button", { name: /Actions for/ }).click();
  await page.getByRole("menuitem", { name: "Rename" }).click();
  await page.getByLabel("New title").fill("Orchard");
  await page.getByLabel("New title").press("Enter");
  await expect(item.getByRole("link")).toHaveText("Orchard");
  await page.getByLabel("Search conversations").fill("nothing like it");
  await expect(item).toHaveCount(0);
  await page.getByLabel("Search conversations").fill("orch");
  await expect(item).toHaveCount(1);
  await item.hover();
  await item.getByRole("button", { name: /Actions for/ }).click();
  await page.getByRole("menuitem", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await expect(item).toHaveCount(0);
  await expect(page.getByTestId("empty-state")).toBeVisible();
});

test("a phone has the same chat behind a drawer", async ({ chat, page }) => {
  await page.setViewportSize({ width: 390, height: 780 });
  await chat.ask("Name a fruit.");
  await chat.endsAs("done");
  const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  expect(await overflow()).toBeLessThanOrEqual(0);
  await page.getByRole("button", { name: "Open the conversation list" }).click();
  await expect(page.getByTestId("conversation")).toBeVisible();
  await page.keyboard.press("Escape");
  await chat.checkWhole();
});
