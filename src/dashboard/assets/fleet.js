// The fleet: what needs a person first, then what moves, then the rest.

import {fleet, follow, rows} from "./api.js";
import {chip, grouped, h, link, path, ratio, say, section, show, when, words} from "./dom.js";
import {evidence, number, split} from "./charts.js";

/** Quiet services that are shown before somebody asks for all. */
const QUIET = 100;
const COLUMNS = ["Service", "Namespace", "Stable", "Pods", "Error budget left", "Last release"];
const collator = new Intl.Collator("en", {numeric: true});
const order = (a, b) => a.urgency - b.urgency || collator.compare(a.namespace, b.namespace) || collator.compare(a.name, b.name);

export const address = (row) => path("ns", row.namespace, "services", row.name);

export function fleetPage(main, [namespace], {title}) {
  title(namespace ?? "Fleet");
  const wanted = new URLSearchParams(location.search);
  let filter = wanted.get("q") ?? "";
  let all = false;
  const field = h("input", {type: "search", id: "filter", placeholder: "Name, revision, words …", value: filter, oninput: () => {
    filter = field.value;
    history.replaceState(null, "", location.pathname + (filter ? "?" + new URLSearchParams({q: filter}) : ""));
    draw();
  }});
  const counts = h("p", {class: "counts"});
  const needs = h("div", {class: "cards"});
  const moves = h("div", {class: "cards"});
  const quiet = h("tbody", {role: "rowgroup"});
  const more = h("div");
  const parts = [
    section("Needs a person", {class: "needs"}, needs),
    section("Moving", {class: "moves"}, moves),
    section("Quiet", {class: "rest"}, h("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": "Quiet services"},
      h("table", {class: "lines", role: "table"}, h("caption", {class: "hidden"}, "Services where nothing moves"),
        h("thead", {role: "rowgroup"}, h("tr", {role: "row"}, COLUMNS.map((t) => h("th", {scope: "col", role: "columnheader"}, t)))), quiet)), more),
  ];
  show(main,
    h("div", {class: "head"},
      h("h1", {}, namespace ? ["Namespace ", namespace] : "Fleet"), counts,
      h("div", {class: "filter", role: "search"}, h("label", {for: "filter"}, "Filter"), field)),
    ...parts);

  const drawn = new Map();
  /** Elements are kept while their row is the same: what is read or has the focus does not flicker. */
  const keyed = (row, make) => {
    const key = `${row.namespace}/${row.name}`;
    const before = drawn.get(key);
    if (before?.row === row && before.make === make) return before.element;
    const element = make(row);
    drawn.set(key, {row, make, element});
    return element;
  };

  function draw() {
    const text = filter.trim().toLowerCase();
    const has = (row) => !text || [row.name, row.namespace, row.message, row.canary?.revision, row.stable?.revision].some((t) => t?.toLowerCase().includes(text));
    const shown = [...rows.values()].filter((row) => (!namespace || row.namespace === namespace) && has(row)).sort(order);
    for (const key of drawn.keys()) if (!rows.has(key)) drawn.delete(key);
    const [person, moving, rest] = [shown.filter((r) => r.urgency <= 2), shown.filter((r) => r.urgency > 2 && r.urgency < 6), shown.filter((r) => r.urgency >= 6)];
    place(needs, person.map((row) => keyed(row, card)));
    place(moves, moving.map((row) => keyed(row, card)));
    const first = all || text ? rest : rest.slice(0, QUIET);
    place(quiet, first.map((row) => keyed(row, line)));
    show(more, first.length < rest.length && h("button", {onclick: () => { all = true; draw(); }}, `Show all ${grouped(rest.length)}`));
    [person, moving, rest].forEach((list, i) => { parts[i].hidden = list.length === 0; });
    show(counts, fleet.whole || rows.size ? [
      h("b", {class: person.length ? "bad" : ""}, grouped(person.length)), " need a person · ",
      h("b", {class: moving.length ? "busy" : ""}, grouped(moving.length)), " moving · ",
      h("b", {}, grouped(rest.length)), " quiet"] : "Loading …");
    if (!shown.length) show(counts, fleet.nothing ? "You may not list PythonServices in any namespace: ask for the role view (see docs/dashboard.md)."
      : !fleet.whole ? "Loading …" : rows.size ? "No service matches." : "There is no PythonService yet.");
    document.title = `${person.length ? `(${person.length}) ` : ""}${namespace ?? "Fleet"} · Molt`;
    if (fleet.whole) say(`${person.length} services need a person, ${moving.length} are moving`);
  }
  const stop = follow(draw);
  draw();
  return stop;
}

/** The same children in the same places, moved no more than it takes. */
function place(parent, children) {
  children.forEach((child, i) => { if (parent.children[i] !== child) parent.insertBefore(child, parent.children[i] ?? null); });
  while (parent.children.length > children.length) parent.lastElementChild.remove();
}

function card(row) {
  // That it is paused stands beside its name.
  const wrong = (row.wrong ?? []).filter((text) => text !== `${row.phase}: ${row.phase}`);
  const worst = row.slos?.length ? row.slos.reduce((a, b) => (number(b.evidence.harm) > number(a.evidence.harm) ? b : a)) : null;
  return h("article", {class: "card service", "aria-label": `${row.namespace}/${row.name}`},
    h("header", {},
      h("h3", {}, link(address(row), {"data-focus": `${row.namespace}/${row.name}`}, h("span", {class: "ns"}, row.namespace, "/"), row.name)),
      row.phase ? chip(row.phase) : chip("Unknown"),
      row.since && h("span", {class: "age"}, when(row.since, {words: false}))),
    h("p", {class: "why"}, row.message),
    row.late && h("p", {class: "problem"}, "The operator has not seen the latest spec yet."),
    wrong.length > 0 && h("ul", {class: "wrong"}, wrong.map((text) => h("li", {}, text))),
    row.canary && split(row),
    worst && h("dl", {class: "facts"},
      fact("Canary", [ratio(worst.canary), " bad"], `${grouped(worst.canary.bad)} of ${grouped(worst.canary.total)}`),
      fact("Stable", [ratio(worst.stable), " bad"], `${grouped(worst.stable.bad)} of ${grouped(worst.stable.total)}`),
      fact("Costs", worst.spentByRollout, "of the budget"),
      row.budget && fact("Left", `${row.budget.left.toFixed(1)}%`, row.budget.slo)),
    worst && evidence(worst, row.needed ?? {}),
    !row.canary && row.last && row.phase !== "RolledBack" && h("p", {class: "quiet"}, "Last: ", chip(row.last.outcome), " ", h("code", {}, row.last.revision), " ", words(row.last.reason), row.since && [" · ", when(row.since)]));
}

export const fact = (title, value, more) => h("div", {}, h("dt", {}, title), h("dd", {}, value, more && h("small", {}, more)));

function line(row) {
  const pods = row.stable ? `${row.stable.ready} of ${row.stable.replicas}` : "–";
  const cell = (i, attributes, ...children) => h("td", {role: "cell", "data-label": COLUMNS[i], ...attributes}, ...children);
  return h("tr", {role: "row"},
    h("th", {scope: "row", role: "rowheader", "data-label": COLUMNS[0]}, link(address(row), {}, row.name)),
    cell(1, {}, row.namespace),
    cell(2, {}, row.stable ? h("code", {}, row.stable.revision) : "–"),
    cell(3, {class: row.stable && row.stable.ready < row.stable.replicas ? "bad" : ""}, pods),
    cell(4, {}, row.budget ? budget(row.budget) : h("span", {class: "quiet"}, "–")),
    cell(5, {}, row.last ? [chip(row.last.outcome, "small"), " ", row.since && when(row.since)] : h("span", {class: "quiet"}, "–")));
}

function budget({slo, left}) {
  const tone = left <= 0 ? "bad" : left < 25 ? "wait" : "good";
  const share = Math.max(0, Math.min(100, left));
  return h("span", {class: "budget", title: `${slo}: ${left.toFixed(1)} % of the window's error budget was left at the last release`},
    h("span", {class: `meter ${tone}`, "aria-hidden": "true"}, h("span", {vars: {"--share": `${share}%`}})), ` ${left.toFixed(1)}%`, h("small", {}, ` ${slo}`));
}
