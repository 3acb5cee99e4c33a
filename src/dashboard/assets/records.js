// Records: what became of each attempt, by the page; and one in full, at an address that stays.

import {get} from "./api.js";
import {history} from "./charts.js";
import {chip, grouped, h, hour, link, path, ratio, section, show, span, table, utc, words} from "./dom.js";
import {changes, guards} from "./service.js";

const of = (head) => path("ns", head.namespace, "records", head.name);

/** A table of records with a button for more. Returns how to look again. */
export function recordTable(parent, which) {
  let list = [];
  let looking = null;
  async function look(after) {
    const asked = new URLSearchParams({...which, limit: "25", ...(after && {after})});
    for (const [name, value] of [...asked]) if (!value || value === "undefined") asked.delete(name);
    try {
      const page = await get(`/api/records?${asked}`);
      list = after ? [...list, ...page.records] : page.records;
      draw(page);
    } catch (refusal) {
      if (refusal.kind !== "SignIn") show(parent, h("p", {class: "problem", role: "alert"}, refusal.message));
    }
  }
  function draw({next, total}) {
    if (!total) return void show(parent, h("p", {class: "quiet"}, "There is no record yet."));
    show(parent, table(`Records, the newest first: ${list.length} of ${total}`, [
      ["Started", (r) => link(of(r), {"data-focus": r.name}, utc(r.startedAt)), "t"],
      ...(which.service ? [] : [["Service", (r) => link(path("ns", r.namespace, "services", r.service), {}, `${r.namespace}/${r.service}`)]]),
      ["Revision", (r) => [h("code", {}, r.revision), ` #${r.attempt}`]],
      ["Outcome", (r) => chip(r.outcome ?? "Running")],
      ["Why", (r) => (r.reason ? words(r.reason) : "")],
      ["Took", (r) => (r.durationSeconds === undefined ? "" : span(r.durationSeconds)), "n"],
      ["Most traffic", (r) => `${r.maxWeight}%`, "n"],
      ["Error budget spent", (r) => r.spent.join(", ")],
    ], list), h("p", {class: "more"}, `${grouped(list.length)} of ${grouped(total)} `, next && h("button", {"data-focus": "more", onclick: () => look(next)}, "Show more")));
  }
  look();
  // What somebody has paged through is not taken away.
  return () => { if (list.length <= 25) looking ??= setTimeout(() => { looking = null; look(); }, 1000); };
}

export function recordsPage(main, _, {title}) {
  title("Records");
  const list = h("div");
  const asked = new URLSearchParams(location.search);
  const choose = h("select", {id: "outcome", onchange: () => {
    history_(choose.value);
    recordTable(list, {outcome: choose.value, namespace: asked.get("namespace") ?? ""});
  }}, ["", "Running", "Promoted", "RolledBack", "Aborted", "Superseded", "Inconclusive"].map((o) => h("option", {value: o, selected: asked.get("outcome") === o}, o ? words(o) : "All")));
  show(main, h("div", {class: "head"}, h("h1", {}, "Records"), h("div", {class: "filter"}, h("label", {for: "outcome"}, "Outcome"), choose)), list);
  recordTable(list, {outcome: choose.value, namespace: asked.get("namespace") ?? ""});
}

const history_ = (outcome) => window.history.replaceState(null, "", "/records" + (outcome ? "?" + new URLSearchParams({outcome}) : ""));

export function recordPage(main, [namespace, name], {title}) {
  title(name);
  const body = h("div");
  show(main, h("p", {class: "crumbs"}, link("/records", {}, "Records"), " / ", link(path("ns", namespace), {}, namespace)), body);
  get("/api" + path("ns", namespace, "records", name)).then((record) => draw(body, namespace, name, record), (refusal) => {
    if (refusal.kind !== "SignIn") show(body, h("h1", {}, name), h("p", {class: "problem", role: "alert"}, refusal.kind === "NotFound" ? "There is no such record: the oldest are deleted once there are more than spec.rolloutRecordLimit. " : refusal.kind === "Forbidden" ? "You may not see this record: " : "", refusal.message));
  });
}

/** One line for each action; `time` says how much of its time is told. */
const acts = (all, time) => table("Actions", [
  ["When", (a) => time(a.at), "t"], ["Who", (a) => a.requestedBy], ["What", (a) => words(a.action)], ["State", (a) => chip(a.state)], ["Why", (a) => a.reason ?? ""], ["What became of it", (a) => a.message]], all);

function draw(body, namespace, name, record) {
  const {spec} = record;
  const status = record.status ?? {};
  const service = path("ns", namespace, "services", spec.service);
  show(body,
    h("div", {class: "head service-head"},
      h("h1", {}, link(service, {}, spec.service), " ", h("code", {}, spec.revision), ` #${spec.attempt}`), chip(status.outcome ?? "Running", "large"),
      h("p", {class: "why large"}, status.reason && [h("b", {}, words(status.reason)), ". "], status.message),
      h("p", {class: "quiet"}, h("time", {datetime: spec.startedAt}, utc(spec.startedAt)), status.endedAt && [" to ", h("time", {datetime: status.endedAt}, utc(status.endedAt))], status.durationSeconds !== undefined && `, ${span(status.durationSeconds)}`,
        spec.stableRevision ? ["; stable was ", h("code", {}, spec.stableRevision)] : "; a first deployment", `; it had up to ${status.maxWeight ?? 0}% of the traffic`)),
    status.slos?.length > 0 && section("What it cost", {}, table("Objectives", [
      ["Objective", (s) => [s.name, s.objective && ` ${s.objective}%`]], ["Canary", (s) => `${grouped(s.canary.bad)} of ${grouped(s.canary.total)} bad`, "n"], ["Share", (s) => ratio(s.canary), "n"],
      ["Stable", (s) => `${grouped(s.stable.bad)} of ${grouped(s.stable.total)} bad`, "n"], ["Share of stable", (s) => ratio(s.stable), "n"],
      ["Error budget spent", (s) => s.spentByRollout, "n"], ["Evidence of harm", (s) => s.evidence.harm, "n"], ["Of safety", (s) => s.evidence.safe, "n"], ["Counted by", (s) => s.sli ?? ""]], status.slos)),
    section("Over time", {}, history(record, null, Date.now())),
    status.change && section("What it changed", {}, changes(status.change)),
    status.actionsBefore?.length > 0 && section("Who did what before it began", {}, acts(status.actionsBefore, utc)),
    status.actions?.length > 0 && section("Who did what", {}, acts(status.actions, hour)),
    status.gates?.length > 0 && section("Gates", {}, table("Gates", [["Gate", (g) => g.name], ["Outcome", (g) => chip(g.outcome)], ["Applied", (g) => (g.applied ?? []).join(", ")], ["Held", (g) => (g.held ?? []).join(", ")], ["Message", (g) => g.message ?? ""]], status.gates)),
    guards(status),
    status.transitions?.length > 0 && section("What happened", {}, table("Transitions", [["When", (t) => hour(t.at), "t"], ["Weight", (t) => `${t.weight}%`, "n"], ["What", (t) => words(t.reason)], ["In words", (t) => t.message]], status.transitions)),
    h("details", {}, h("summary", {}, `Verdicts (${status.verdicts?.length ?? 0})`), table("Verdicts", [
      ["When", (v) => hour(v.at), "t"], ["Step", (v) => v.step + 1, "n"], ["Weight", (v) => `${v.weight}%`, "n"], ["Objective", (v) => v.slo], ["Canary", (v) => `${v.canary.bad} of ${v.canary.total}`, "n"], ["Stable", (v) => `${v.stable.bad} of ${v.stable.total}`, "n"],
      ["Harm", (v) => v.evidence.harm, "n"], ["Safe", (v) => v.evidence.safe, "n"], ["Spent", (v) => v.spent, "n"], ["Verdict", (v) => chip(v.verdict, "small")]], status.verdicts ?? [])),
    h("p", {class: "quiet"}, "This address stays: ", h("code", {}, `${location.origin}${path("ns", namespace, "records", name)}`)));
}
