// What is asked of the server, and the stream that all pages share.

/** Why something could not be done, as the server says it. */
export class Refusal extends Error {
  constructor(kind, message) { super(message); this.kind = kind; }
}

async function ask(method, address, body) {
  let response;
  try {
    response = await fetch(address, {
      method,
      headers: {"x-molt-dashboard": "1", ...(body && {"content-type": "application/json"})},
      body: body && JSON.stringify(body),
    });
  } catch {
    throw new Refusal("Gone", "the dashboard's server does not answer");
  }
  if (response.ok) return response.status === 204 ? null : response.headers.get("content-type")?.includes("json") ? response.json() : response.text();
  const told = await response.json().catch(() => ({}));
  const refusal = new Refusal(told.error ?? "Upstream", told.message ?? `the server answered ${response.status}`);
  // A token that is just being tried is told of where it was pasted.
  if (refusal.kind === "SignIn" && !(method === "POST" && address === "/api/session")) on.signIn?.(refusal.message);
  throw refusal;
}

export const get = (address) => ask("GET", address);
export const post = (address, body) => ask("POST", address, body);
export const remove = (address) => ask("DELETE", address);

/** What the shell wants to know: the standing of the server, and that somebody has to sign in. */
export const on = {standing: null, signIn: null};

/** Every service, by "namespace/name". */
export const rows = new Map();
export const fleet = {whole: false, nothing: false};
const listeners = new Set();

/** Calls back with the keys that changed, all that came within a frame at once. Returns how to stop. */
export function follow(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

let source = null;
let place = null;
let waiting = new Set();

function tell(key) {
  if (waiting.size === 0) setTimeout(() => {
    const keys = waiting;
    waiting = new Set();
    for (const listener of [...listeners]) listener(keys);
  }, 16);
  waiting.add(key);
}

export function connect() {
  if (source || document.hidden) return;
  source = new EventSource("/api/stream" + (place ? `?after=${encodeURIComponent(place)}` : ""));
  source.addEventListener("rows", (event) => {
    const news = JSON.parse(event.data);
    place = event.lastEventId;
    if (news.reset) rows.clear(), fleet.whole = false;
    for (const row of news.rows) {
      const key = `${row.namespace}/${row.name}`;
      rows.set(key, row);
      tell(key);
    }
    for (const key of news.gone) rows.delete(key), tell(key);
    if (news.reset) tell("");
  });
  source.addEventListener("whole", () => { fleet.whole = true; tell(""); });
  source.addEventListener("standing", (event) => {
    const standing = JSON.parse(event.data);
    fleet.nothing = standing.nothing;
    on.standing?.({server: true, ...standing});
    tell("");
  });
  source.addEventListener("bye", (event) => {
    const {signIn, message} = JSON.parse(event.data);
    disconnect();
    if (signIn) on.signIn?.(message);
    else on.standing?.({server: true, connected: true, trouble: message});
  });
  source.onerror = async () => {
    if (source?.readyState === EventSource.CONNECTING) on.standing?.({server: false});
    if (source?.readyState !== EventSource.CLOSED) return;
    disconnect();
    // A refusal tells why; without an answer it is tried again.
    try {
      const session = await get("/api/session");
      if (session.signIn) return on.signIn?.(session.signIn);
    } catch (refusal) {
      if (refusal.kind === "SignIn") return;
      on.standing?.({server: refusal.kind !== "Gone", connected: refusal.kind === "Gone", trouble: refusal.message});
    }
    setTimeout(connect, 2000);
  };
}

export function disconnect() {
  source?.close();
  source = null;
}

export function forget() {
  disconnect();
  place = null;
  rows.clear();
  fleet.whole = false;
}

// Browsers open few connections to a host: a page that nobody looks at gives its own back.
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
