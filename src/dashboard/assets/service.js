// One service: why it is where it is, what would move it, what it costs, what it consists of.

import {fleet, follow, get, rows} from "./api.js";
import {actions} from "./actions.js";
import {evidence, history, split} from "./charts.js";
import {chip, clock, grouped, h, hour, isWeb, link, marked, now, path, ratio, say, section, show, table, when, words} from "./dom.js";
import {recordTable} from "./records.js";
import {fact} from "./fleet.js";

/** At most one look in this time, in milliseconds. */
const PAUSE = 400;

export function servicePage(main, [namespace, name], {session, title}) {
  title(`${name} in ${namespace}`);
  const key = `${namespace}/${name}`;
  const api = "/api" + path("ns", namespace, "services", name);
  const top = h("div");
  const body = h("div");
  const past = h("div");
  const pods = podsOf(namespace, api);
  show(main, h("p", {class: "crumbs"}, link("/", {}, "Fleet"), " / ", link(path("ns", namespace), {}, namespace)), top, body, pods.element,
    section("Records", {}, past));
  let gone = false;
  let left = false;
  let timer = null;
  let looking = false;
  let again = false;
  let last = "";
  let drawn = "";
  let latest = null;

  async function look() {
    if (looking) { again = true; return; }
    looking = true;
    try {
      const shown = await get(api);
      if (left) return;
      gone = pods.element.hidden = false;
      latest = shown;
      clock(shown.now);
      // What says the same is not drawn again: it may be selected, or read aloud.
      const same = JSON.stringify({...shown, now: null});
      if (same !== drawn) draw(shown);
      drawn = same;
    } catch (refusal) {
      if (left) return;
      if (refusal.kind === "NotFound") deleted();
      else if (refusal.kind === "Forbidden") show(top, h("h1", {}, name), h("p", {class: "problem", role: "alert"}, "You may not see this service: ", refusal.message));
      else if (refusal.kind !== "SignIn" && !last) show(top, h("h1", {}, name), h("p", {class: "problem", role: "alert"}, refusal.message));
    } finally {
      looking = false;
      if (again && !left) { again = false; soon(); }
    }
  }
  const soon = () => { timer ??= setTimeout(() => { timer = null; look(); }, PAUSE); };

  function deleted() {
    if (gone) return;
    gone = pods.element.hidden = true;
    drawn = "";
    show(top, h("h1", {}, name), h("p", {class: "problem", role: "alert"}, last ? "This PythonService was deleted. Its records stay:" : "There is no such PythonService. It may have been deleted; its records stay:"));
    // What was true of it is over, and nothing can be asked of it any more: only what happened is left.
    document.querySelector("dialog[open]")?.close();
    show(body, latest && [story(latest), latest.record && section("Over time", {}, history(latest.record, latest.needed, now())), change(latest)]);
    title(`Deleted: ${name}`);
    say(`${name} does not exist any more`);
  }

  function draw(shown) {
    const {status, explanation, attempt} = shown;
    const phase = status.phase ?? "Unknown";
    show(top,
      h("div", {class: "head service-head"},
        h("h1", {}, name), chip(phase, "large"),
        attempt ? h("span", {class: "age"}, "for ", when(attempt.startedAt, {words: false})) : shown.last && h("span", {class: "age"}, when(shown.last.endedAt)),
        h("p", {class: "why large"}, explanation.message),
        (shown.owner || shown.runbook) && h("p", {class: "contact"}, shown.owner && ["Owner ", h("b", {}, shown.owner)], shown.owner && shown.runbook && " · ", isWeb(shown.runbook) && h("a", {href: shown.runbook, rel: "noreferrer"}, "Runbook")),
        shown.deleting && h("p", {class: "problem"}, "It is being deleted."),
        (status.observedGeneration ?? 0) < shown.generation && status.phase && h("p", {class: "problem"}, "The operator has not seen the latest spec yet: what follows is of the one before."),
        !status.phase && h("p", {class: "problem"}, "No operator has taken it up yet. Is one running? ", h("code", {}, "kubectl get pods -A -l app.kubernetes.io/name=molt"))));
    show(body,
      h("div", {class: "columns"},
        h("div", {}, status.canary && traffic(shown), attempt && way(attempt), objectives(shown), wrong(explanation, shown.name)),
        h("div", {}, actions(shown, session, look), next(explanation), held(explanation), story(shown))),
      shown.record && section(attempt ? "Over time" : "The last attempt over time", {}, history(shown.record, shown.needed, now())),
      change(shown), guards(status), conditions(status));
    const told = `${name}: ${words(phase)}. ${explanation.message}`;
    if (last && told !== last) say(told);
    last = told;
    title(`${words(phase)}: ${name}`);
  }

  const stop = follow((keys) => {
    if (keys.has(key)) { soon(); pods.look(); recent(); }
    // A page that comes back, or a right that was lost, says so by the whole list.
    else if (keys.has("") && fleet.whole && !rows.has(key) !== gone) soon();
  });
  const recent = recordTable(past, {namespace, service: name});
  look();
  return () => { left = true; clearTimeout(timer); stop(); pods.stop(); };
}

const traffic = (shown) => section("Traffic", {class: "card traffic"}, split({canary: shown.status.canary, stable: shown.status.stable}));

function way(attempt) {
  return section("Steps", {class: "card"},
    h("p", {}, attempt.at),
    h("ol", {class: "way"}, attempt.way.map((place) =>
      h("li", {class: place.here ? "here" : place.done ? "done" : "", "aria-current": place.here && "step"},
        place.word, place.done && h("span", {class: "hidden"}, " (done)")))));
}

function objectives(shown) {
  const slos = shown.status.slos ?? [];
  if (!slos.length) return null;
  const target = (name) => shown.objectives.find((o) => o.name === name)?.objective;
  return section("Objectives", {class: "card"}, slos.map((slo) => h("div", {class: "objective"},
    h("h3", {}, slo.name, target(slo.name) && h("small", {}, ` ${target(slo.name)}%`)),
    h("dl", {class: "facts"},
      fact("Canary", [ratio(slo.canary), " bad"], `${grouped(slo.canary.bad)} of ${grouped(slo.canary.total)}`),
      fact("Stable", [ratio(slo.stable), " bad"], `${grouped(slo.stable.bad)} of ${grouped(slo.stable.total)}`),
      fact("Costs", slo.spentByRollout, `of the budget, at most ${shown.needed.spend}`),
      fact("Left", slo.budgetRemaining ?? "unknown", "at the beginning"),
      slo.burn && fact("Burn rate", slo.burn.canary ?? "unknown", `stable ${slo.burn.stable ?? "unknown"}, adds ${slo.burn.attributable ?? "unknown"}`)),
    evidence({...slo, name: "evidence"}, shown.needed))));
}

function wrong(explanation, name) {
  if (!explanation.wrong.length) return null;
  return section("Wrong", {class: "card bad-edge"}, explanation.wrong.map((one) => h("div", {class: "fault"},
    h("p", {}, h("b", {}, one.condition), " ", one.reason, " · ", when(one.since)),
    h("p", {}, one.message), one.fix && h("p", {class: "fix"}, h("b", {}, "What to do: "), marked(one.fix, name)))));
}

function next(explanation) {
  if (!explanation.byItself.length) return null;
  return section("By itself", {class: "card"}, h("ul", {class: "plain"}, explanation.byItself.map((entry) => h("li", {}, h("b", {}, when(entry.at)), " ", entry.what))));
}

const held = (explanation) => explanation.heldBy.length > 0 && section("Held by", {class: "card wait-edge"}, h("ul", {class: "plain"}, explanation.heldBy.map((text) => h("li", {}, text))));

function story(shown) {
  const of = shown.attempt ?? shown.last;
  if (!of) return null;
  const steps = [...of.transitions].reverse();
  return section(shown.attempt ? "What happened" : "The last attempt", {class: "card"},
    h("p", {}, `attempt ${of.number} at `, h("code", {}, of.revision), of.outcome && [" ", chip(of.outcome), " ", words(of.reason), `; it had up to ${of.maxWeight}% of the traffic`]),
    h("ol", {class: "story"}, steps.slice(0, 12).map((t) => h("li", {}, h("time", {datetime: t.at, class: "n"}, hour(t.at)), h("b", {}, words(t.reason)), h("span", {class: "n"}, `${t.weight}%`), h("p", {}, t.message)))),
    shown.record && h("p", {}, link(path("ns", shown.namespace, "records", shown.record.name), {}, "The record, for a post-mortem")));
}

/** What differs between both revisions. */
export function changes(change) {
  return [
    change.author && h("p", {}, "By ", h("b", {}, change.author)),
    change.template.length ? table("Fields that differ", [["Field", (f) => h("code", {}, f.field)], ["Stable", (f) => f.before ?? h("i", {}, "absent"), "before"], ["Canary", (f) => f.after ?? h("i", {}, "absent"), "after"]], change.template, {class: "diff"}) : h("p", {class: "quiet"}, "The pod templates don't differ: content that they name does, or the port or the runtime."),
    change.more && h("p", {}, `and ${change.more} fields more`),
  ];
}

function change(shown) {
  const what = shown.record?.status?.change;
  return what && section(shown.attempt ? "What the revision changes" : "What the last attempt changed", {}, changes(what));
}

export function guards(status) {
  const list = status.guards?.conditions ?? [];
  const runtime = status.guards?.runtime ?? [];
  return (list.length > 0 || runtime.length > 0) && section("Guards", {}, list.length > 0 && table("Thresholds and Jobs", [
    ["Condition", (g) => g.name], ["Verdict", (g) => chip(g.verdict)], ["Value", (g) => g.value ?? "–", "n"], ["Wanted", (g) => h("code", {}, g.successCondition)],
    ["Failed", (g) => `${g.failed} of ${g.evaluated}, ${g.mode === "Warn" ? "only warns" : `${g.failureLimit} may`}`], ["Message", (g) => g.message ?? ""]], list),
  runtime.length > 0 && table("Guards of the runtime", [
    ["Guard", (g) => words(g.name)], ["Verdict", (g) => chip(g.verdict)], ["Canary", (g) => g.canary ?? "–"], ["Stable", (g) => g.stable ?? "–"],
    ["Allowed", (g) => g.allowed], ["Message", (g) => g.message ?? ""]], runtime));
}

const conditions = (status) => h("details", {}, h("summary", {}, "All conditions"),
  table("Conditions", [["Type", (c) => c.type], ["Status", (c) => c.status], ["Reason", (c) => c.reason], ["Since", (c) => when(c.lastTransitionTime)], ["Message", (c) => c.message]], status.conditions ?? []));

/** Pods, once somebody asks for them. */
function podsOf(namespace, api) {
  const list = h("div");
  const log = h("div");
  let timer = null;
  let open = false;
  const element = h("details", {class: "pods", ontoggle: () => { open = element.open; if (open) look(); }}, h("summary", {}, "Pods and their last lines"), list, log);

  async function look() {
    if (!open) return;
    try {
      const {pods, total} = await get(`${api}/pods`);
      show(list, table("Pods", [
        ["Pod", (p) => p.name], ["Revision", (p) => h("code", {}, p.revision)],
        ["State", (p) => (p.ready ? h("span", {class: "chip good"}, "✓ Ready") : h("span", {class: "chip bad"}, `✕ ${p.phase}`))],
        ["Restarts", (p) => p.restarts, "n"], ["Trouble", (p) => p.trouble ?? ""],
        ["Last lines", (p) => p.containers.map((c) => [
          h("button", {class: "small", "data-focus": `log-${p.name}-${c}`, onclick: () => lines(p.name, c, false)}, c),
          p.restarts > 0 && h("button", {class: "small", onclick: () => lines(p.name, c, true)}, `${c}, before its restart`)])],
      ], pods), total > pods.length && h("p", {}, `${pods.length} of ${total} are shown.`), !total && h("p", {class: "quiet"}, "There is no pod."));
    } catch (refusal) { show(list, h("p", {class: "problem", role: "alert"}, refusal.kind === "Forbidden" ? "You may not see pods: " : "", refusal.message)); }
  }

  async function lines(pod, container, previous) {
    show(log, h("p", {class: "quiet"}, "Loading …"));
    try {
      const text = await get("/api" + path("ns", namespace, "pods", pod, "log") + "?" + new URLSearchParams({container, previous}));
      const block = h("pre", {tabindex: "0", role: "region", "aria-label": `The last lines of ${pod}`}, text || "It has said nothing yet.");
      show(log, h("h3", {}, `${pod} · ${container}${previous ? " · before its restart" : ""}`), block);
      block.scrollTop = block.scrollHeight;
    } catch (refusal) { show(log, h("p", {class: "problem", role: "alert"}, refusal.kind === "Forbidden" ? "You may not read its log: " : "", refusal.message)); }
  }

  return {element, look: () => { timer ??= setTimeout(() => { timer = null; look(); }, 1000); }, stop: () => clearTimeout(timer)};
}
