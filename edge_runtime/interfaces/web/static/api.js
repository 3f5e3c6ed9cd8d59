// Talking to this device: JSON in and out, a refusal is a sentence. Paths are relative to where the page is shown,
// which may be a sub-path of a proxy.

export class Refused extends Error {
  constructor(status, sentence) { super(sentence); this.status = status; }
}

export const signedOut = new EventTarget(); // tells "out" when a token is needed

const here = (path) => new URL(path, document.baseURI);

async function request(method, path, body, headers = {}) {
  // No page of another origin can send this header unasked.
  const init = { method, headers: { "X-LVM-Edge": "1", ...headers }, credentials: "same-origin", body };
  let reply;
  try {
    reply = await fetch(here(path), init);
  } catch {
    throw new Refused(0, "The device does not answer.");
  }
  if (reply.ok) return reply;
  let sentence = `The device answered ${reply.status}.`;
  try { sentence = (await reply.json()).error || sentence; } catch { /* no JSON: the status has been said */ }
  if (reply.status === 401 && path !== "api/v1/session") signedOut.dispatchEvent(new Event("out"));
  throw new Refused(reply.status, sentence);
}

export const picture = (path, signal) => fetch(here(path), { credentials: "same-origin", signal });
export const get = async (path) => (await request("GET", path)).json();
export const send = async (method, path, value) =>
  (await request(method, path, JSON.stringify(value), { "Content-Type": "application/json" })).json();

/** What is at `path`, null where this device has no such thing. */
export async function maybe(path) {
  try { return await get(path); } catch (error) {
    if (error.status === 404 || error.status === 405) return null;
    throw error;
  }
}

/** A WebSocket of this device. */
export function listen(path) {
  const address = here(path);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  return new WebSocket(address);
}

export const cameraPath = (name, rest = "") => `api/v1/cameras/${encodeURIComponent(name)}${rest}`;
export const productPath = (name, rest = "") => `api/v1/catalogue/${encodeURIComponent(name)}${rest}`;
export const query = (values) => new URLSearchParams(values).toString();
