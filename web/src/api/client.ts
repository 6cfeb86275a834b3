import createClient, { type Client } from "openapi-fetch";
import { problemFrom } from "./problem";
import type { paths } from "./schema";
import type { Session } from "./session";

export type Api = Client<paths>;

/**
 * The typed client. Every request carries the session's token; a 401 refreshes it once and
 * repeats the request. Requests that carry a body are cloned first, for the repetition.
 */
export function createApi(session: Session): Api {
  const send = async (request: Request): Promise<Response> => {
    const anonymous = request.url.includes("/api/v1/auth/");
    const again = request.clone();
    if (session.accessToken) request.headers.set("authorization", `Bearer ${session.accessToken}`);
    const response = await fetch(request);
    if (response.status !== 401 || anonymous) return response;
    const token = await session.refresh();
    if (!token) return response;
    again.headers.set("authorization", `Bearer ${token}`);
    return fetch(again);
  };
  return createClient<paths>({ baseUrl: window.location.origin, fetch: send });
}

type Outcome<T> = { data?: T; error?: unknown; response: Response };

/** The body of a successful answer; a problem is thrown as `ApiProblem`. */
export async function unwrap<T>(outcome: Promise<Outcome<T>>): Promise<T> {
  const { data, error, response } = await outcome;
  if (!response.ok) throw problemFrom(error, response.status);
  return data as T;
}
