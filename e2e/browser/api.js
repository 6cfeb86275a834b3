// The public interface, to compare what the page shows with what the server holds.
export const PASSWORD = "correct-horse-battery";

export class Api {
  constructor(url, email) {
    this.url = url;
    this.email = email;
  }

  static async register(url, email) {
    const api = new Api(url, email);
    const { access_token } = await api.call("POST", "/auth/register", { email, password: PASSWORD });
    api.token = access_token;
    return api;
  }

  async call(method, path, body) {
    const headers = { "content-type": "application/json" };
    if (this.token) headers.authorization = `Bearer ${this.token}`;
    const answer = await fetch(`${this.url}/api/v1${path}`, {
      method,
      headers,
      body: body && JSON.stringify(body),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  async messages(conversation) {
    const items = [];
    let cursor = null;
    do {
      const query = new URLSearchParams({ limit: "100", ...(cursor ? { cursor } : {}) });
      const page = await this.call("GET", `/conversations/${conversation}/messages?${query}`);
      items.push(...page.items);
      cursor = page.next_cursor;
    } while (cursor);
    return items;
  }

  /** One message of the conversation that the page has open. */
  async message(page, id) {
    const conversation = new URL(page.url()).pathname.split("/").at(-1);
    return (await this.messages(conversation)).find((message) => message.id === id);
  }
}
