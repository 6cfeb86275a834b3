// A running Jarvis for each file of tests, somebody signed in to it, and the page as a person sees it.
import { test as base, expect } from "@playwright/test";
import { Api, PASSWORD } from "./api.js";
import { Chat } from "./chat.js";
import { Jarvis } from "../support/jarvis.js";

let count = 0;

// biome-ignore lint/correctness/noEmptyPattern: the runner reads the pattern
async function running({}, use) {
  const jarvis = new Jarvis("serve");
  try {
    await use(await jarvis.start());
  } finally {
    await jarvis.end();
  }
}

export const test = base.extend({
  jarvis: [running, { scope: "worker" }],

  /** A Jarvis that nobody has an account with. */
  installation: running,

  /** Somebody with an account, seen from the interface. */
  api: async ({ jarvis }, use) => {
    count += 1;
    await use(await Api.register(jarvis.url, `user${count}-${process.pid}@example.org`));
  },

  /** The same person in the browser; whatever the page's console calls an error fails the test. */
  chat: async ({ page, jarvis, api }, use, info) => {
    const complaints = watchConsole(page);
    const chat = new Chat(page, api);
    await chat.signIn(jarvis.url, PASSWORD);
    await use(chat);
    if (info.status === info.expectedStatus) expect(complaints).toEqual([]);
  },
});

test.afterEach(async ({ jarvis }, info) => {
  if (info.status !== info.expectedStatus) console.error(jarvis.log.slice(-6_000));
});

/**
 * Collects what the console calls an error. Expected are failed loads of a server that is away, and the
 * refusal that tells a page that nobody is signed in.
 */
export function watchConsole(page) {
  const complaints = [];
  page.on("console", (message) => {
    const away = /ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|WebSocket connection/;
    const where = message.location().url;
    const nobody = message.text().includes("401") && where.endsWith("/auth/refresh");
    if (message.type() === "error" && !nobody && !away.test(message.text())) {
      complaints.push(`${message.text()} ${where}`);
    }
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  return complaints;
}

export { expect };
