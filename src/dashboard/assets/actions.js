// What a person can do now, as `kubectl molt explain` says it, and the question before it is done.

import {post} from "./api.js";
import {focus, h, path, say, section, show} from "./dom.js";

/** Verbs of the command line, and the actions that they make. */
const VERBS = {
  promote: ["Promote", "Promote"], "promote --full": ["PromoteFull", "Promote fully"], pause: ["Pause", "Pause"], resume: ["Resume", "Resume"],
  override: ["Override", "Override"], abort: ["Abort", "Abort"], retry: ["Retry", "Retry"], undo: ["Undo", "Undo"], restart: ["Restart", "Restart pods"], release: ["Release", "Release"],
};
const DANGER = new Set(["Abort", "PromoteFull", "Override", "Undo", "Release", "Reject"]);

/** "kubectl molt promote checkout -n shop --full" as "promote --full". */
const verbOf = (command) => command.split(" ")[2] + (command.endsWith(" --full") ? " --full" : "");

export function actions(shown, session, done) {
  const possible = shown.explanation.commands.map((c) => ({...c, verb: verbOf(c.command)})).filter((c) => VERBS[c.verb]);
  const all = [
    ...possible.map((c) => ({action: VERBS[c.verb][0], title: VERBS[c.verb][1], meaning: c.meaning, effect: c.effect, command: c.command})),
    ...shown.approvals.flatMap((gate) => [
      {action: "Approve", title: `Approve ${gate}`, object: gate, meaning: "what waits for a person goes on", command: `kubectl molt approve ${shown.name} -n ${shown.namespace} --gate ${gate}`},
      {action: "Reject", title: `Reject ${gate}`, object: gate, meaning: "what waits for a person is not done", command: `kubectl molt reject ${shown.name} -n ${shown.namespace} --gate ${gate}`}]),
  ];
  if (!all.length) return section("What you can do", {class: "card acts"}, h("p", {class: "quiet"}, "Nothing, at the moment."));
  const order = (one) => (one.action === "Abort" ? 0 : one.action.startsWith("Promote") ? 1 : 2);
  all.sort((a, b) => order(a) - order(b));
  return section("What you can do", {class: "card acts"},
    session.guest && h("p", {class: "quiet"}, "Sign in to act in your own name."),
    h("div", {class: "buttons"}, all.map((one) =>
      h("button", {class: one.action === "Abort" ? "danger" : "", "data-focus": `act-${one.title}`, disabled: session.guest, title: one.meaning, onclick: () => confirm(one, shown, session, done)}, one.title, " …"))),
    shown.explanation.refused.length > 0 && h("details", {}, h("summary", {}, "What would not be accepted now"), h("ul", {class: "plain"}, shown.explanation.refused.map((r) => h("li", {}, h("b", {}, r.verb), ": ", r.why)))));
}

function confirm(one, shown, session, done) {
  const became = h("p", {role: "status"});
  const reason = h("input", {id: "reason", maxlength: "1024", autocomplete: "off", placeholder: "INC-12: errors in checkout"});
  const yes = h("button", {type: "submit", class: DANGER.has(one.action) ? "danger" : "primary"}, one.title);
  const no = h("button", {type: "button", onclick: () => dialog.close()}, "Cancel");
  // What it is about as this page shows it: the server refuses it if that is another one by then.
  const seen = shown.meant[one.action];
  const of = seen ? [seen.attempt ? `attempt ${seen.attempt} at ` : "revision ", h("code", {}, seen.revision)] : "";
  const form = h("form", {onsubmit: async (event) => {
    event.preventDefault();
    yes.disabled = true;
    show(became, "Asking …");
    try {
      const told = await post("/api" + path("ns", shown.namespace, "services", shown.name, "actions"), {action: one.action, object: one.object, reason: reason.value, seen});
      became.className = told.state === "Applied" ? "applied" : "problem";
      show(became, told.state ? h("b", {}, `${told.state}: `) : "", told.message);
      say(`${one.title}: ${told.state ?? ""} ${told.message}`);
      yes.remove();
      no.textContent = "Close";
      no.focus();
      done();
    } catch (refusal) {
      yes.disabled = false;
      became.className = "problem";
      show(became, refusal.kind === "Forbidden" ? "You may not: " : "", refusal.message);
    }
  }},
    h("h2", {id: "confirm"}, `${one.title}: ${shown.name}?`),
    h("p", {}, `In ${shown.namespace}, `, of, ": ", one.meaning, "."),
    one.effect && h("p", {class: "effect"}, h("b", {}, "The operator would say: "), one.effect),
    h("label", {for: "reason"}, "Why (kept in the record)"), reason,
    h("p", {class: "quiet"}, session.user ? ["As ", h("b", {}, session.user.name), ", the same as "] : "The same as ", h("code", {}, one.command)),
    became, h("div", {class: "buttons"}, yes, no));
  const dialog = h("dialog", {"aria-labelledby": "confirm", onclose: () => { dialog.remove(); focus(`act-${one.title}`); }}, form);
  document.body.append(dialog);
  dialog.showModal();
  reason.focus();
}
