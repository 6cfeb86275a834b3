/** What went wrong, in a form the page can name: the server's stable code, or one of our own. */
export class ApiProblem extends Error {
  readonly code: string;
  /** HTTP status; 0 when no answer came at all. */
  readonly status: number;
  readonly detail: string;

  constructor(code: string, status: number, detail: string) {
    super(detail || code);
    this.name = "ApiProblem";
    this.code = code;
    this.status = status;
    this.detail = detail;
  }
}

/** Reads a problem+json body; anything else (a proxy's HTML page) becomes `internal`. */
export function problemFrom(body: unknown, status: number): ApiProblem {
  if (typeof body === "object" && body !== null && "code" in body) {
    const { code, detail, title } = body as Record<string, unknown>;
    if (typeof code === "string") {
      const text = typeof detail === "string" && detail ? detail : title;
      return new ApiProblem(code, status, typeof text === "string" ? text : "");
    }
  }
  return new ApiProblem(status === 401 ? "unauthorized" : "internal", status, "");
}

/** Anything thrown, as a problem; a failed fetch is `offline`. */
export function toProblem(thrown: unknown): ApiProblem {
  if (thrown instanceof ApiProblem) return thrown;
  if (thrown instanceof TypeError) return new ApiProblem("offline", 0, thrown.message);
  return new ApiProblem("internal", 0, thrown instanceof Error ? thrown.message : "");
}
