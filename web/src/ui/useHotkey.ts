import { useEffect } from "react";

/** Runs `action` on ⌘/Ctrl + key (with Shift if asked), wherever the focus is. */
export function useHotkey(key: string, action: () => void, shift = false): void {
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent) => {
      const chord = (event.metaKey || event.ctrlKey) && event.shiftKey === shift && !event.altKey;
      if (!chord || event.key.toLowerCase() !== key) return;
      event.preventDefault();
      action();
    };
    window.addEventListener("keydown", onKeyDown);
    return () => window.removeEventListener("keydown", onKeyDown);
  }, [key, action, shift]);
}
