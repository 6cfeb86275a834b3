import { expect, test } from "vitest";
import { invitationLink, invitedWith } from "./useInvitations";

test("a link carries its code where no server is sent it", () => {
  const link = new URL(invitationLink("a+b/c="));
  expect(link.pathname).toBe("/sign-up");
  expect(link.search).toBe("");
  expect(invitedWith(link.hash.slice(1))).toBe("a+b/c=");
});

test("another fragment invites nobody", () => {
  expect(invitedWith("")).toBe("");
  expect(invitedWith("message-field")).toBe("");
});
