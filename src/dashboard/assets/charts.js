// Pictures of a rollout. Each has its words, for who does not see it.

import {chip, grouped, h, hour, svg} from "./dom.js";

/** Which part of the traffic is whose. */
export function split(row) {
  const {canary, stable} = row;
  const weight = Math.max(0, Math.min(100, canary.weight));
  const pods = (side) => `${side.ready}/${side.replicas} pods`;
  return h("div", {class: "split"},
    h("div", {class: "split-bar", role: "img", "aria-label": `The canary ${canary.revision} has ${weight} % of the traffic`},
      h("span", {class: "of-canary", vars: {"--share": `${weight}%`}})),
    h("div", {class: "split-words"},
      h("span", {}, h("i", {class: "key canary"}), "canary ", h("code", {}, canary.revision), " ", h("b", {}, `${weight}%`), " ", h("small", {class: canary.ready < canary.replicas ? "bad" : ""}, pods(canary))),
      stable && h("span", {}, h("i", {class: "key stable"}), "stable ", h("code", {}, stable.revision), " ", h("b", {}, `${stable.weight}%`), " ", h("small", {class: stable.ready < stable.replicas ? "bad" : ""}, pods(stable)))));
}

/** The number in a text: "1,000", "0.21%", "1000000+". */
export const number = (text) => Number.parseFloat(String(text).replaceAll(",", "")) || 0;

/** A factor of evidence: what is beyond all measure says so. */
const factor = (text) => (String(text).endsWith("+") ? `over ${grouped(number(text))}` : text);

/** How far factors of evidence have come to a bound, on a scale of logarithms from 1. */
function progress(text, bound) {
  const [value, most] = [number(text), number(bound)];
  if (value <= 1 || most <= 1) return 0;
  return Math.min(100, (100 * Math.log(value)) / Math.log(most));
}

/** The two bounds of one objective: harm takes back, safety lets go on. */
export function evidence(slo, needed) {
  const [harm, safe] = [needed.harm ?? "100", needed.safe ?? "20"];
  const bar = (name, text, bound, tone) => {
    const share = progress(text, bound);
    return h("div", {class: "evidence-line"},
      h("span", {class: "evidence-name"}, name),
      h("span", {class: `evidence-bar ${tone}`, role: "img", "aria-label": `Evidence for ${name}: ${text} of ${bound}`}, h("span", {vars: {"--share": `${share}%`}})),
      h("span", {class: "n"}, h("b", {}, factor(text)), ` of ${bound}`));
  };
  return h("div", {class: "evidence"},
    h("p", {class: "evidence-head"}, h("span", {}, slo.name), slo.verdict && chip(slo.verdict, "small")),
    bar("harm", slo.evidence.harm, harm, "bad"), bar("safe", slo.evidence.safe, safe, "good"));
}

/** Lines over time: series are {name, kind, points: [[ms, value]], step}. Words below say the last values. */
export function chart(title, series, {unit = "", bounds = [], log = false, height = 150, floor = 0, range = null} = {}) {
  const shown = series.filter((s) => s.points.length);
  if (!shown.length) return h("figure", {class: "chart"}, h("figcaption", {}, title), h("p", {class: "quiet"}, "Nothing has been measured yet."));
  const [width, left, right, top, bottom] = [560, 44, 12, 8, 20];
  const scale = (v) => (log ? Math.log10(Math.max(v, 0.1)) : v);
  const times = range ?? shown.flatMap((s) => s.points.map(([t]) => t));
  const values = [...shown.flatMap((s) => s.points.map(([, v]) => scale(v))), ...bounds.map((b) => scale(b.at)), scale(floor)];
  const [t0, t1] = [Math.min(...times), Math.max(...times)];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const top10 = high === low ? high + 1 : high + (high - low) * 0.08;
  const x = (t) => left + ((width - left - right) * (t - t0)) / Math.max(1, t1 - t0);
  const y = (v) => top + (height - top - bottom) * (1 - (scale(v) - low) / (top10 - low));
  const line = (s) => s.points.map(([t, v], i) => {
    const to = `${x(t).toFixed(1)},${y(v).toFixed(1)}`;
    return i === 0 ? `M${to}` : s.step ? `H${x(t).toFixed(1)}V${y(v).toFixed(1)}` : `L${to}`;
  }).join("");
  const marks = log ? [0.1, 1, 10, 100, 1e3, 1e4, 1e5, 1e6].filter((m) => scale(m) >= low && scale(m) <= top10) : nice(low, top10);
  const last = (s) => s.points[s.points.length - 1][1];
  const label = (v) => (Math.abs(v) >= 1e6 ? `${Math.round(v / 1e6)}M` : Math.abs(v) >= 1000 ? `${Math.round(v / 1000)}k` : Math.abs(v) >= 100 ? Math.round(v) : Math.abs(v) >= 10 ? v.toFixed(1).replace(/\.0$/, "") : v === 0 ? "0" : v.toFixed(2).replace(/0$/, "").replace(/\.0$/, "")) + unit;
  return h("figure", {class: "chart"},
    h("figcaption", {}, title),
    svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}: ${shown.map((s) => `${s.name} ${label(last(s))} at last`).join(", ")}`},
      marks.map((m) => [svg("line", {class: "grid", x1: left, x2: width - right, y1: y(m), y2: y(m)}), svg("text", {class: "axis", x: left - 6, y: y(m) + 3.5, "text-anchor": "end"}, label(m))]),
      bounds.map((b) => [svg("line", {class: `bound ${b.kind}`, x1: left, x2: width - right, y1: y(b.at), y2: y(b.at)}), svg("text", {class: `axis ${b.kind}`, x: width - right, y: y(b.at) + (b.kind === "good" ? 13 : -4), "text-anchor": "end"}, b.name)]),
      shown.map((s) => [svg("path", {class: `line ${s.kind}`, d: line(s)}), svg("circle", {class: `dot ${s.kind}`, r: 3, cx: x(s.points.at(-1)[0]), cy: y(last(s))})]),
      svg("text", {class: "axis", x: left, y: height - 5}, hour(new Date(t0).toISOString())),
      svg("text", {class: "axis", x: width - right, y: height - 5, "text-anchor": "end"}, hour(new Date(t1).toISOString()))),
    h("p", {class: "legend"}, shown.map((s) => h("span", {}, h("i", {class: `key ${s.kind}`}), `${s.name} `, h("b", {}, label(last(s)))))));
}

function nice(low, high) {
  const rough = (high - low) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const marks = [];
  for (let m = Math.ceil(low / step) * step; m <= high; m += step) marks.push(Math.abs(m) < step / 1e6 ? 0 : m);
  return marks;
}

/** The charts of an attempt from its record: weight, and for each objective both revisions and the evidence. */
export function history(record, needed, at) {
  const {spec, status} = record;
  const verdicts = status?.verdicts ?? [];
  const time = (iso) => Date.parse(iso);
  const end = status?.endedAt ? time(status.endedAt) : at;
  const weights = [[time(spec.startedAt), 0], ...(status?.transitions ?? []).map((t) => [time(t.at), t.weight])];
  weights.push([Math.max(end, weights.at(-1)[0]), weights.at(-1)[1]]);
  // All of them by the same clock.
  const range = [weights[0][0], weights.at(-1)[0]];
  const figures = [chart("Traffic of the canary", [{name: "weight", kind: "canary", step: true, points: weights}], {unit: "%", range})];
  for (const name of [...new Set(verdicts.map((v) => v.slo))]) {
    const own = verdicts.filter((v) => v.slo === name);
    const share = (side) => own.filter((v) => v[side].total > 0).map((v) => [time(v.at), (100 * v[side].bad) / v[side].total]);
    figures.push(chart(`${name}: bad requests`, [{name: "stable", kind: "stable", points: share("stable")}, {name: "canary", kind: "canary", points: share("canary")}], {unit: "%", range}));
    const seen = (side) => own.map((v) => [time(v.at), number(v.evidence[side])]);
    figures.push(chart(`${name}: evidence`, [{name: "harm", kind: "bad", points: seen("harm")}, {name: "safe", kind: "good", points: seen("safe")}], {
      log: true, floor: 0.1, range,
      bounds: [needed?.harm && {name: `rolls back at ${needed.harm}`, at: number(needed.harm), kind: "bad"}, needed?.safe && {name: `goes on at ${needed.safe}`, at: number(needed.safe), kind: "good"}].filter(Boolean),
    }));
    const spent = own.filter((v) => /^[0-9.]+%$/.test(v.spent)).map((v) => [time(v.at), number(v.spent)]);
    const limit = needed?.spend && number(needed.spend);
    if (spent.length > 1) figures.push(chart(`${name}: error budget spent`, [{name: "spent", kind: "wait", points: spent}], {unit: "%", range, bounds: limit ? [{name: `at most ${needed.spend}`, at: limit, kind: "bad"}] : []}));
  }
  return h("div", {class: "charts"}, figures);
}

