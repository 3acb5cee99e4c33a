// The shell: which page an address is, the banner, signing in and out.

import {connect, forget, get, on, post, remove} from "./api.js";
import {clock, h, link, say, show, when} from "./dom.js";
import {fleetPage} from "./fleet.js";
import {servicePage} from "./service.js";
import {recordPage, recordsPage} from "./records.js";

const main = document.getElementById("main");
let leave = null;
let session = {};

const PAGES = [
  [/^\/$/, fleetPage],
  [/^\/ns\/([^/]+)$/, fleetPage],
  [/^\/records$/, recordsPage],
  [/^\/ns\/([^/]+)\/services\/([^/]+)$/, servicePage],
  [/^\/ns\/([^/]+)\/records\/([^/]+)$/, recordPage],
];

/** Shows the page of the address. */
function go() {
  leave?.();
  leave = null;
  for (const [pattern, page] of PAGES) {
    const found = pattern.exec(location.pathname);
    if (!found) continue;
    let names;
    try { names = found.slice(1).map(decodeURIComponent); } catch { break; }
    mark();
    leave = page(main, names, {session, title});
    return;
  }
  title("Not found");
  show(main, h("h1", {}, "There is no such page"), h("p", {}, link("/", {}, "To the fleet")));
}

function title(text) { document.title = text ? `${text} · Molt` : "Molt"; }

function mark() {
  for (const a of document.querySelectorAll(".bar nav a")) {
    const is = a.pathname === "/" ? !location.pathname.startsWith("/records") : location.pathname.startsWith(a.pathname);
    is ? a.setAttribute("aria-current", "page") : a.removeAttribute("aria-current");
  }
}

addEventListener("popstate", go);
document.addEventListener("click", (event) => {
  const a = event.target.closest?.("a[data-link]");
  if (!a || event.button || event.metaKey || event.ctrlKey || event.shiftKey || a.origin !== location.origin) return;
  event.preventDefault();
  if (a.href !== location.href) history.pushState(null, "", a.href);
  go();
  scrollTo(0, 0);
  main.focus({preventScroll: true});
});

// How it stands with the server and with the API server.
const banner = document.getElementById("banner");
const live = document.getElementById("live");
on.standing = ({server, connected, since, trouble}) => {
  let told = null;
  if (!server) told = "The dashboard's server does not answer. What you see is as it was; it is tried again all the time.";
  else if (connected === false) told = ["The API server does not answer, since ", when(since, {words: false}), ". What you see is as it was before; rollouts go on or wait without this page."];
  else if (trouble) told = trouble;
  banner.hidden = !told;
  show(banner, told);
  live.className = told ? "live off" : "live";
  show(live, told ? "Not live" : "Live");
};

on.signIn = (why) => {
  forget();
  session = {...session, user: undefined};
  signIn(why);
};

function signIn(why) {
  leave?.();
  leave = null;
  title("Sign in");
  show(document.getElementById("user"));
  if (session.mode === "Local") {
    show(main, h("h1", {}, "This link has been used"), h("p", {}, why));
    return;
  }
  const problem = h("p", {class: "problem", role: "alert"});
  const field = h("textarea", {id: "token", rows: "4", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "token-help", placeholder: "eyJhbGciOi…"});
  const form = h("form", {class: "card sign-in", onsubmit: async (event) => {
    event.preventDefault();
    show(problem);
    try {
      await post("/api/session", {token: field.value});
      field.value = "";
      await begin();
    } catch (refusal) { show(problem, refusal.message); field.focus(); }
  }},
    h("h1", {}, "Sign in"),
    h("p", {}, why.charAt(0).toUpperCase() + why.slice(1) + (why.endsWith(".") ? "" : ".")),
    h("label", {for: "token"}, "Bearer token"), field,
    h("p", {id: "token-help", class: "quiet"}, "What you may see and do here is what this token may by the cluster's RBAC. For example: ", h("code", {}, "kubectl create token NAME -n NAMESPACE")),
    problem,
    h("button", {class: "primary", type: "submit"}, "Sign in"));
  show(main, form);
  field.focus();
}

async function begin() {
  try {
    session = await get("/api/session");
  } catch (refusal) {
    if (refusal.kind !== "SignIn") {
      show(main, h("h1", {}, "The dashboard can't be shown"), h("p", {class: "problem"}, refusal.message), h("button", {onclick: begin}, "Try again"));
      setTimeout(begin, 3000);
    }
    return;
  }
  if (session.signIn) return signIn(session.signIn);
  if (session.now) clock(session.now);
  const user = document.getElementById("user");
  if (session.guest) show(user, "Guest ", h("button", {class: "small", onclick: () => signIn("Sign in to act in your own name.")}, "Sign in"));
  else if (session.user) show(user,
    h("span", {title: `${session.user.groups.join(", ")}`}, session.user.name),
    session.signedInBy === "Token" && h("button", {class: "small", onclick: async () => { await remove("/api/session"); location.assign("/"); }}, "Sign out"));
  connect();
  go();
  say("The dashboard is ready");
}

begin();
