import type { Session } from "../api/session";

export type Boot = "starting" | "ready" | "unreachable";

const AGAIN_MS = 3_000;

/** Restores the session from its cookie; keeps trying while the server is out of reach. */
export function boot(session: Session, report: (state: Boot) => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let stopped = false;
  const attempt = async () => {
    try {
      await session.refresh();
      if (!stopped) report("ready");
    } catch {
      if (stopped) return;
      report("unreachable");
      timer = setTimeout(() => void attempt(), AGAIN_MS);
    }
  };
  void attempt();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}
