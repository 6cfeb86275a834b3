// Accessibility: what the checker calls serious or worse.
import axe from "axe-core";
import { expect } from "@playwright/test";

export async function checkAccessible(page) {
  await page.evaluate(axe.source);
  // Colours in the middle of a transition are nobody's choice.
  await page.evaluate(() => {
    const brief = document
      .getAnimations()
      .filter((animation) => animation.effect.getComputedTiming().endTime !== Number.POSITIVE_INFINITY);
    for (const animation of brief) animation.finish();
  });
  const { violations, passes } = await page.evaluate(() => window.axe.run(document));
  const grave = violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(
      ({ id, help, nodes }) =>
        `${id}: ${help}: ${nodes.map((node) => `${node.target} (${node.failureSummary})`).join("; ")}`,
    );
  expect(passes.length, "the checker has looked at something").toBeGreaterThan(5);
  expect(grave).toEqual([]);
}
