const LEASE_MS = 8_000;
const POLL_MS = 60;

/**
 * Runs `work` while no other tab of this browser does. A refresh token is good for one renewal:
 * two tabs that send the same one, seconds apart, look like theft to the server, which then signs
 * all of them out.
 * Web Locks exist only in secure contexts; elsewhere a lease in localStorage has to do.
 */
export async function exclusively<T>(name: string, work: () => Promise<T>): Promise<T> {
  if (typeof navigator !== "undefined" && navigator.locks) {
    return navigator.locks.request(name, work) as Promise<T>;
  }
  const release = await acquireLease(name);
  try {
    return await work();
  } finally {
    release();
  }
}

async function acquireLease(name: string): Promise<() => void> {
  const key = `jarvis.lock.${name}`;
  const mine = Math.random().toString(36).slice(2);
  const holder = () => {
    const [id, until] = (localStorage.getItem(key) ?? "").split(" ");
    return id && Number(until) > Date.now() ? id : null;
  };
  try {
    for (;;) {
      if (holder() === null) localStorage.setItem(key, `${mine} ${Date.now() + LEASE_MS}`);
      // Another tab may have written at the same moment: the last write wins, look again.
      await new Promise((resolve) => setTimeout(resolve, POLL_MS * (1 + Math.random())));
      if (holder() === mine) return () => localStorage.removeItem(key);
    }
  } catch {
    return () => {}; // No storage: then no other tab shares anything either.
  }
}
