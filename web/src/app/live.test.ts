import { describe, expect, it } from "vitest";
import { ChatSocket, type WireSocket } from "../api/socket";
import { LiveAnswers } from "../features/chat/live";

class FakeWire implements WireSocket {
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  sent: Record<string, unknown>[] = [];
  closed = false;

  send(text: string) {
    this.sent.push(JSON.parse(text));
  }
  close() {
    this.closed = true;
  }
  say(frame: object) {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }
  becomeReady() {
    this.onopen?.();
    this.say({ type: "ready", user_id: "u", expires_at: "" });
  }
}

function world(random = () => 0) {
  const wires: FakeWire[] = [];
  const timers: { run: () => void; ms: number; live: boolean }[] = [];
  const renewals: boolean[] = [];
  let token: string | null | Error = "t1";
  const socket = new ChatSocket({
    connect: () => {
      const wire = new FakeWire();
      wires.push(wire);
      return wire;
    },
    token: async (renew) => {
      renewals.push(renew);
      if (token instanceof Error) throw token;
      return token;
    },
    setTimeout: (run, ms) => {
      const timer = { run, ms, live: true };
      timers.push(timer);
      return timer;
    },
    clearTimeout: (timer) => {
      if (timer) (timer as { live: boolean }).live = false;
    },
    random,
  });
  const settle = async () => {
    for (let turn = 0; turn < 5; turn++) await Promise.resolve();
  };
  const fire = async () => {
    const timer = timers.filter((each) => each.live).at(-1);
    if (!timer) throw new Error("no timer is set");
    timer.live = false;
    timer.run();
    await settle();
    return timer.ms;
  };
  const wire = () => wires.at(-1) as FakeWire;
  const setToken = (value: string | null | Error) => {
    token = value;
  };
  return { socket, wires, wire, renewals, settle, fire, setToken };
}

const accepted = (id: string) => ({
  type: "accepted",
  id,
  conversation_id: "c",
  message_id: "m",
  assistant_message_id: "a",
  generation_id: "g",
});

describe("the socket", () => {
  it("authenticates before anything else and holds questions until it is ready", async () => {
    const { socket, wire, settle } = world();
    socket.start();
    void socket.request({ type: "send", id: "1", conversation_id: null, content: "hi" });
    await settle();
    wire().onopen?.();
    expect(wire().sent).toEqual([{ type: "auth", access_token: "t1" }]);
    wire().say({ type: "ready", user_id: "u", expires_at: "" });
    expect(wire().sent[1]).toMatchObject({ type: "send", id: "1" });
  });

  it("repeats an unanswered question under the same id, and an answered one never", async () => {
    const { socket, wire, settle, fire } = world();
    socket.start();
    await settle();
    wire().becomeReady();
    const answered = socket.request({ type: "send", id: "1", conversation_id: "c", content: "a" });
    void socket.request({ type: "send", id: "2", conversation_id: "c", content: "b" });
    wire().say(accepted("1"));
    await expect(answered).resolves.toMatchObject({ generation_id: "g" });
    wire().onclose?.({ code: 1006 });
    await fire();
    wire().becomeReady();
    const sends = wire().sent.filter((frame) => frame["type"] === "send");
    expect(sends.map((frame) => frame["id"])).toEqual(["2"]);
  });

  it("backs off exponentially between half and all of a capped delay", async () => {
    const delays: number[] = [];
    const { socket, wire, settle, fire } = world(() => 0.999999);
    socket.start();
    await settle();
    for (let round = 0; round < 8; round++) {
      wire().onclose?.({ code: 1006 });
      delays.push(Math.round(await fire()));
    }
    expect(delays).toEqual([400, 800, 1600, 3200, 6400, 12800, 15000, 15000]);
    wire().becomeReady();
    wire().onclose?.({ code: 1006 });
    expect(Math.round(await fire())).toBe(400);
  });

  it("spreads the delay by chance", async () => {
    const { socket, wire, settle, fire } = world(() => 0);
    socket.start();
    await settle();
    wire().onclose?.({ code: 1006 });
    expect(await fire()).toBe(200);
  });

  it("renews the token after a refusal and stops when nobody is signed in", async () => {
    const { socket, wire, wires, settle, fire, renewals, setToken } = world();
    socket.start();
    await settle();
    wire().becomeReady();
    wire().onclose?.({ code: 4401 });
    setToken("t2");
    await fire();
    expect(renewals).toEqual([false, true]);
    wire().onopen?.();
    expect(wire().sent).toEqual([{ type: "auth", access_token: "t2" }]);
    setToken(null);
    wire().onclose?.({ code: 4401 });
    await fire();
    expect(socket.state).toBe("closed");
    expect(wires).toHaveLength(2);
  });

  it("keeps trying while the server is out of reach", async () => {
    const { socket, wire, settle, fire, setToken } = world();
    setToken(new TypeError("offline"));
    socket.start();
    await settle();
    expect(socket.state).toBe("waiting");
    setToken("t1");
    await fire();
    wire().becomeReady();
    expect(socket.state).toBe("ready");
  });

  it("gives up a connection that never becomes ready", async () => {
    const { socket, wire, settle, fire } = world();
    socket.start();
    await settle();
    const first = wire();
    first.onopen?.();
    await fire();
    expect(first.closed).toBe(true);
    expect(socket.state).toBe("waiting");
  });

  it("re-authenticates on the open connection when the token is renewed", async () => {
    const { socket, wire, settle } = world();
    socket.start();
    await settle();
    wire().becomeReady();
    socket.renew("t2");
    expect(wire().sent.at(-1)).toEqual({ type: "auth", access_token: "t2" });
  });

  it("rejects with the server's code", async () => {
    const { socket, wire, settle } = world();
    socket.start();
    await settle();
    wire().becomeReady();
    const refused = socket.request({ type: "send", id: "1", conversation_id: "c", content: "" });
    wire().say({ type: "error", id: "1", code: "message_empty", message: "empty" });
    await expect(refused).rejects.toMatchObject({ code: "message_empty" });
  });

  it("ignores frames it does not understand", async () => {
    const { socket, wire, settle } = world();
    socket.start();
    await settle();
    wire().becomeReady();
    wire().onmessage?.({ data: "not json" });
    wire().onmessage?.({ data: new ArrayBuffer(2) });
    wire().say({ type: "from_the_future" });
    expect(socket.state).toBe("ready");
  });
});

describe("live answers over the socket", () => {
  const delta = (offset: number, text: string) => ({
    type: "delta",
    generation_id: "g",
    epoch: 1,
    offset,
    text,
  });

  async function following() {
    const each = world();
    const frames: (() => void)[] = [];
    const waiting: (() => void)[] = [];
    const live = new LiveAnswers(each.socket, {
      schedule: (run) => frames.push(run),
      later: (run) => waiting.push(run),
    });
    each.socket.start();
    await each.settle();
    each.wire().becomeReady();
    const all = (runs: (() => void)[]) => () => runs.splice(0).forEach((run) => void run());
    return { ...each, live, paint: all(frames), wait: all(waiting) };
  }

  it("re-subscribes at the byte it holds after a reconnection, and loses nothing", async () => {
    const { live, wire, fire } = await following();
    live.follow("g", "", true);
    wire().say(delta(0, "Été"));
    wire().onclose?.({ code: 1006 });
    await fire();
    wire().becomeReady();
    expect(wire().sent.at(-1)).toEqual({
      type: "subscribe",
      generation_id: "g",
      offset: 5,
      epoch: 1,
    });
    wire().say(delta(3, "é !"));
    expect(live.get("g")?.text).toBe("Été !");
  });

  it("asks again for an answer while the database is away", async () => {
    const { live, wire, wait } = await following();
    live.follow("g", "Held");
    const asked = wire().sent.length;
    wire().say({ type: "error", generation_id: "g", code: "store_unavailable", message: "" });
    expect(wire().sent.length).toBe(asked);
    wait();
    expect(wire().sent.at(-1)).toMatchObject({ type: "subscribe", generation_id: "g", offset: 4 });
  });

  it("goes on with an answer whose end nobody could keep", async () => {
    const { live, wire, wait } = await following();
    live.follow("g", "Held");
    const cut = { type: "interrupted", generation_id: "g", reason: "storage_failed" };
    wire().say({ ...cut, status: "running" });
    expect(live.get("g")).toMatchObject({ phase: "running", text: "Held" });
    wait();
    expect(wire().sent.at(-1)).toMatchObject({ type: "subscribe", generation_id: "g", offset: 4 });
    wire().say(delta(4, " and more"));
    expect(live.get("g")?.text).toBe("Held and more");
  });

  it("asks for the missing bytes when there is a gap", async () => {
    const { live, wire } = await following();
    live.follow("g", "", true);
    wire().say(delta(4, "late"));
    expect(wire().sent.at(-1)).toEqual({
      type: "subscribe",
      generation_id: "g",
      offset: 0,
      epoch: 0,
    });
    expect(live.get("g")?.text).toBe("");
  });

  it("draws the deltas of one frame together and an end at once", async () => {
    const { live, wire, paint } = await following();
    let draws = 0;
    const ends: string[] = [];
    live.follow("g", "", true);
    live.watch("g", () => {
      draws += 1;
    });
    live.ended.on((answer) => ends.push(answer.text));
    wire().say(delta(0, "a"));
    wire().say(delta(1, "b"));
    wire().say(delta(2, "c"));
    expect(draws).toBe(0);
    paint();
    expect(draws).toBe(1);
    wire().say({ type: "done", generation_id: "g", offset: 3, usage: null, status: "done" });
    wire().say({ type: "done", generation_id: "g", offset: 3, usage: null, status: "done" });
    expect(draws).toBe(2);
    expect(ends).toEqual(["abc"]);
  });

  it("ends an answer that is not there any more", async () => {
    const { live, wire } = await following();
    live.follow("g");
    wire().say({ type: "error", generation_id: "g", code: "not_found", message: "gone" });
    expect(live.get("g")).toMatchObject({ phase: "interrupted", error: { code: "not_found" } });
  });

  it("does not follow finished answers again", async () => {
    const { live, wire, fire } = await following();
    live.follow("g", "", true);
    wire().say({ type: "done", generation_id: "g", offset: 0, usage: null, status: "done" });
    wire().onclose?.({ code: 1006 });
    await fire();
    wire().becomeReady();
    expect(wire().sent.map((frame) => frame["type"])).toEqual(["auth"]);
  });
});
