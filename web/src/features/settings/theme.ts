import { useSyncExternalStore } from "react";
import { Emitter } from "../../api/emitter";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

/** Read by `public/theme.js` too, before the first paint. */
const KEY = "jarvis.theme";
const changed = new Emitter<void>();

function read(): Theme {
  try {
    const stored = localStorage.getItem(KEY);
    return stored === "light" || stored === "dark" ? stored : "system";
  } catch {
    return "system";
  }
}

let current: Theme = read();

function apply(): void {
  const dark =
    current === "dark" ||
    (current === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset["theme"] = dark ? "dark" : "light";
}

export function setTheme(theme: Theme): void {
  current = theme;
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // Kept for this visit only.
  }
  apply();
  changed.emit();
}

/** Follows the system, and what another tab chooses. */
export function watchTheme(): void {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  window.addEventListener("storage", (event) => {
    if (event.key !== KEY) return;
    current = read();
    apply();
    changed.emit();
  });
  apply();
}

export function useTheme(): Theme {
  return useSyncExternalStore(
    (notify) => changed.on(notify),
    () => current,
  );
}
