// An installation that lets in whom its administrator invites.
import { Jarvis } from "../support/jarvis.js";
import { Api, PASSWORD } from "./api.js";
import { checkAccessible } from "./axe.js";
import { Chat } from "./chat.js";
import { expect, test, watchConsole } from "./fixtures.js";

let jarvis;
test.beforeAll(async () => {
  jarvis = new Jarvis("serve");
  jarvis.env.JARVIS_AUTH_REGISTRATION = "invite";
  await jarvis.start();
});
test.afterAll(() => jarvis.end());

async function signUp(page, link, email) {
  await page.goto(link);
  await page.getByLabel("Email").fill(email);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByTestId("sign-up-form").getByRole("button", { name: "Create account" }).click();
}

test("an administrator invites, withdraws, and whoever has the link comes in once", async ({ page, browser }) => {
  const complaints = watchConsole(page);
  const admin = new Chat(page, await Api.register(jarvis.url, "admin@example.org"));
  await admin.signIn(jarvis.url, PASSWORD);
  await admin.openSettings();
  await page.getByTestId("invite-people").click();
  const shown = page.getByLabel("The link", { exact: true });
  const make = async () => {
    const before = (await shown.count()) ? await shown.inputValue() : "";
    await page.getByRole("button", { name: "Make a link" }).click();
    await expect(shown).not.toHaveValue(before);
    return shown.inputValue();
  };
  const first = await make();
  const second = await make();
  await expect(page.getByTestId("invitation")).toHaveCount(2);
  await checkAccessible(page);

  const guest = await (await browser.newContext()).newPage();
  await signUp(guest, first, "guest@example.org");
  await expect(guest.getByTestId("composer")).toBeVisible();
  await guest.getByTestId("account-menu").click();
  await expect(guest.getByTestId("sign-out")).toBeVisible();
  await expect(guest.getByTestId("invite-people"), "only administrators invite").toHaveCount(0);

  // The newest stands first: it is taken back.
  await page.reload();
  await admin.openSettings();
  await page.getByTestId("invite-people").click();
  await expect(page.getByTestId("invitation"), "a used one is gone").toHaveCount(1);
  await page.getByRole("button", { name: /^Withdraw/ }).click();
  await expect(page.getByTestId("invitation")).toHaveCount(0);
  for (const worthless of [first, second]) {
    const late = await (await browser.newContext()).newPage();
    await signUp(late, worthless, "late@example.org");
    await expect(late.getByRole("alert")).toContainText("A valid invitation code is needed.");
    await late.context().close();
  }
  await guest.context().close();
  expect(complaints).toEqual([]);
});
