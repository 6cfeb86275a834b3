import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { createApi, unwrap } from "./client";
import { Session } from "./session";

const json = (status: number, body: unknown) =>
  new Response(JSON.stringify(body), {
    status,
    headers: { "content-type": status < 400 ? "application/json" : "application/problem+json" },
  });
const token = (name: string) => ({ access_token: name, token_type: "Bearer", expires_in: 900 });

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
  // As in a browser with a secure context: one holder at a time.
  let tail: Promise<unknown> = Promise.resolve();
  vi.stubGlobal("navigator", {
    locks: {
      request: (_: string, work: () => Promise<unknown>) => {
        const run = tail.then(work);
        tail = run.catch(() => undefined);
        return run;
      },
    },
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("the session", () => {
  it("refreshes once however many ask", async () => {
    const send = vi.fn(async () => json(200, token("a")));
    const session = new Session(send);
    await Promise.all([session.refresh(), session.refresh(), session.refresh()]);
    expect(send).toHaveBeenCalledTimes(1);
    expect(session.accessToken).toBe("a");
  });

  it("never lets two tabs refresh at the same time", async () => {
    let inside = 0;
    let most = 0;
    const send = async () => {
      inside += 1;
      most = Math.max(most, inside);
      await Promise.resolve();
      inside -= 1;
      return json(200, token("a"));
    };
    await Promise.all([new Session(send).refresh(), new Session(send).refresh()]);
    expect(most).toBe(1);
  });

  it("ends on a refusal, but not while the server is out of reach", async () => {
    let answer: () => Promise<Response> = async () => json(200, token("a"));
    const session = new Session(() => answer());
    const states: string[] = [];
    session.changed.on((state) => states.push(state));
    await session.refresh();
    answer = async () => {
      throw new TypeError("network");
    };
    await expect(session.refresh()).rejects.toThrow();
    answer = async () => json(503, { code: "stopping" });
    await expect(session.refresh()).rejects.toMatchObject({ code: "stopping" });
    expect(session.state).toBe("signed_in");
    answer = async () => json(401, { code: "unauthorized" });
    expect(await session.refresh()).toBeNull();
    expect(states).toEqual(["signed_in", "signed_out"]);
    expect(session.accessToken).toBeNull();
  });

  it("renews itself before the token ends, and tells who holds a connection", async () => {
    let count = 0;
    const session = new Session(async () => json(200, token(`t${++count}`)));
    const renewed: string[] = [];
    session.renewed.on((each) => renewed.push(each));
    await session.refresh();
    await vi.advanceTimersByTimeAsync(900_000 * 0.8 + 1);
    expect(renewed).toEqual(["t1", "t2"]);
  });

  it("does not hand out a token that has slept past its end", async () => {
    let count = 0;
    const session = new Session(async () => json(200, token(`t${++count}`)));
    await session.refresh();
    expect(await session.fresh()).toBe("t1");
    vi.setSystemTime(Date.now() + 899_000);
    expect(await session.fresh()).toBe("t2");
  });
});

describe("the client", () => {
  it("refreshes after a 401 and repeats the request with its body", async () => {
    const session = new Session(async () => json(200, token("new")));
    session.adopt(token("old"));
    const seen: string[] = [];
    vi.stubGlobal("fetch", async (request: Request) => {
      const bearer = request.headers.get("authorization");
      seen.push(`${bearer} ${await request.text()}`);
      return bearer === "Bearer new"
        ? json(201, { id: "c" })
        : json(401, { code: "token_expired" });
    });
    const api = createApi(session);
    await unwrap(api.POST("/api/v1/conversations", { body: { title: "x" } }));
    expect(seen).toEqual(['Bearer old {"title":"x"}', 'Bearer new {"title":"x"}']);
  });

  it("does not take a wrong password for an expired session", async () => {
    const refresh = vi.fn(async () => json(200, token("new")));
    vi.stubGlobal("fetch", async () => json(401, { code: "invalid_credentials", detail: "no" }));
    const api = createApi(new Session(refresh));
    const login = unwrap(api.POST("/api/v1/auth/login", { body: { email: "a", password: "b" } }));
    await expect(login).rejects.toMatchObject({ code: "invalid_credentials", status: 401 });
    expect(refresh).not.toHaveBeenCalled();
  });

  it("gives every failure a code", async () => {
    vi.stubGlobal("fetch", async () => new Response("<html>bad gateway", { status: 502 }));
    const api = createApi(new Session(async () => json(401, {})));
    await expect(unwrap(api.GET("/api/v1/instance"))).rejects.toMatchObject({
      code: "internal",
      status: 502,
    });
  });
});
