import { Emitter } from "./emitter";
import { exclusively } from "./lock";
import { problemFrom } from "./problem";
import type { TokenResponse } from "./types";

export type SessionState = "unknown" | "signed_in" | "signed_out";

type Fetch = (input: string, init: RequestInit) => Promise<Response>;

/** Renewed when this share of the token's life has passed. */
const RENEW_AT = 0.8;
const MARGIN_MS = 5_000;
const RETRY_MS = 5_000;
const LONGEST_TIMER_MS = 2_000_000_000;

/**
 * Who is signed in. The access token lives here, in memory, and nowhere else; the refresh token
 * is a cookie that scripts cannot read. `refresh` is single-flight in a tab and exclusive across tabs.
 */
export class Session {
  readonly changed = new Emitter<SessionState>();
  /** A renewed token, for whoever holds a connection open. */
  readonly renewed = new Emitter<string>();
  private token: string | null = null;
  private expires = 0;
  private current: SessionState = "unknown";
  private refreshing: Promise<string | null> | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly send: Fetch;

  constructor(send: Fetch = (input, init) => fetch(input, init)) {
    this.send = send;
  }

  get state(): SessionState {
    return this.current;
  }

  get accessToken(): string | null {
    return this.token;
  }

  /** Takes the answer of a sign-in or sign-up. */
  adopt(answer: TokenResponse): void {
    this.token = answer.access_token;
    this.expires = Date.now() + answer.expires_in * 1000;
    this.schedule(answer.expires_in * 1000 * RENEW_AT);
    this.become("signed_in");
    this.renewed.emit(answer.access_token);
  }

  /**
   * A new access token from the cookie; null when the session is over.
   * Throws when the server cannot be reached: that is no reason to sign anyone out.
   */
  refresh(): Promise<string | null> {
    this.refreshing ??= exclusively("refresh", () => this.requestToken()).finally(() => {
      this.refreshing = null;
    });
    return this.refreshing;
  }

  /** The token if it will last a moment longer (a laptop may have slept), else a new one. */
  async fresh(renew = false): Promise<string | null> {
    if (!renew && this.token && Date.now() < this.expires - MARGIN_MS) return this.token;
    return this.refresh();
  }

  /** Forgets the token here; the caller tells the server. */
  clear(): void {
    this.token = null;
    clearTimeout(this.timer);
    this.become("signed_out");
  }

  async signOut(): Promise<void> {
    try {
      await this.send("/api/v1/auth/logout", {
        method: "POST",
        credentials: "same-origin",
        headers: this.token ? { authorization: `Bearer ${this.token}` } : {},
      });
    } finally {
      this.clear();
    }
  }

  private async requestToken(): Promise<string | null> {
    const response = await this.send("/api/v1/auth/refresh", {
      method: "POST",
      credentials: "same-origin",
    });
    if (response.ok) {
      this.adopt((await response.json()) as TokenResponse);
      return this.token;
    }
    if (response.status === 401 || response.status === 403) {
      this.clear();
      return null;
    }
    throw problemFrom(await response.json().catch(() => null), response.status);
  }

  private schedule(delay: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(
      () => {
        this.refresh().catch(() => this.schedule(RETRY_MS));
      },
      Math.min(Math.max(delay, 1000), LONGEST_TIMER_MS),
    );
  }

  private become(state: SessionState): void {
    if (this.current === state) return;
    this.current = state;
    this.changed.emit(state);
  }
}
