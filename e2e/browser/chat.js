// The chat page, in the words of whoever uses it.
import { expect } from "@playwright/test";

export const LONG =
  "Write a very long story about a lighthouse keeper and the sea. Tell it chapter by chapter, in detail.";

/** Only what Markdown neither adds nor takes away. */
const letters = (text) => text.replace(/[^\p{L}]/gu, "");

export class Chat {
  constructor(page, api) {
    this.page = page;
    this.api = api;
    this.answers = page.getByTestId("message-assistant");
    this.stopButton = page.getByTestId("stop");
  }

  get answer() {
    return this.answers.last();
  }

  async signIn(url, password) {
    await this.page.goto(url);
    await this.page.getByTestId("sign-in-form").waitFor();
    await this.page.getByLabel("Email").fill(this.api.email);
    await this.page.getByLabel("Password").fill(password);
    await this.page.getByTestId("sign-in-form").getByRole("button", { name: "Sign in" }).click();
    await this.page.getByTestId("composer").waitFor();
  }

  async ask(question) {
    await this.page.getByTestId("composer").fill(question);
    await this.page.getByTestId("composer").press("Enter");
  }

  /** The text of the last answer as it is drawn. */
  async drawn() {
    const text = this.answer.locator(".answer");
    return (await text.count()) ? text.innerText() : "";
  }

  /** Waits until the last answer has at least so many characters, and still grows. */
  async growsTo(length) {
    await expect.poll(async () => (await this.drawn()).length, { intervals: [50] }).toBeGreaterThan(length);
    await expect(this.answer).toHaveAttribute("data-status", "running");
    return this.drawn();
  }

  async endsAs(status, timeout = 80_000) {
    await expect(this.answer).toHaveAttribute("data-status", status, { timeout });
  }

  /** The last answer's source, which the page gives to the clipboard. */
  async copied() {
    await this.answer.hover();
    await this.answer.getByRole("button", { name: "Copy message" }).click();
    await expect(this.answer.getByRole("button", { name: "Copied" })).toBeVisible();
    return this.page.evaluate(() => navigator.clipboard.readText());
  }

  /** The page holds the last answer as the server does, byte by byte, and draws all of it, once. */
  async checkWhole(begunWith = "") {
    const id = await this.answer.getAttribute("data-message-id");
    const kept = await this.api.message(this.page, id);
    expect(await this.copied()).toBe(kept.content);
    expect(letters(await this.drawn())).toBe(letters(kept.content));
    expect(
      letters(kept.content).startsWith(letters(begunWith)),
      "what was shown is still its beginning",
    ).toBe(true);
    return kept;
  }

  /** Marks the page: the mark is gone after any reload. */
  async mark() {
    await this.page.evaluate(() => {
      window.neverReloaded = true;
    });
  }

  async checkMark() {
    expect(await this.page.evaluate(() => window.neverReloaded), "the page was not reloaded").toBe(true);
  }

  async openSettings() {
    await this.page.getByTestId("account-menu").click();
  }
}
