import { type RefObject, useCallback, useEffect, useRef, useState } from "react";

const NEAR_PX = 12;

/**
 * Follows the end of a growing element for as long as the reader stays there.
 * Scrolling up, by however little, lets go; returning to the end takes hold again.
 */
export function useStickToBottom(
  viewport: RefObject<HTMLElement | null>,
  content: RefObject<HTMLElement | null>,
) {
  const stuck = useRef(true);
  const [atBottom, setAtBottom] = useState(true);

  const toBottom = useCallback(() => {
    const element = viewport.current;
    if (!element) return;
    stuck.current = true;
    element.scrollTop = element.scrollHeight;
    setAtBottom(true);
  }, [viewport]);

  useEffect(() => {
    const element = viewport.current;
    const inner = content.current;
    if (!element || !inner) return;
    let last = element.scrollTop;
    let height = element.scrollHeight;
    const onScroll = () => {
      const distance = element.scrollHeight - element.clientHeight - element.scrollTop;
      const shrunk = element.scrollHeight < height;
      if (distance <= NEAR_PX) stuck.current = true;
      else if (element.scrollTop < last && !shrunk) stuck.current = false;
      last = element.scrollTop;
      height = element.scrollHeight;
      setAtBottom(stuck.current);
    };
    const observer = new ResizeObserver(() => {
      if (stuck.current) element.scrollTop = element.scrollHeight;
    });
    observer.observe(inner);
    observer.observe(element);
    element.addEventListener("scroll", onScroll, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", onScroll);
    };
  }, [viewport, content]);

  return { atBottom, toBottom };
}
