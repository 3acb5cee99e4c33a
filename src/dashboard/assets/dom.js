// Elements, words and times. Text from the API only ever becomes text nodes.

const SVG = "http://www.w3.org/2000/svg";

/** An element: h("td", {class: "n"}, "12", child, …). Nothing here parses markup. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "vars") for (const [k, v] of Object.entries(value)) element.style.setProperty(k, v);
    else element.setAttribute(name, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false || child === "") continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Puts other children in place; what has the focus, by its data-focus, keeps it, and what was opened stays open. */
export function show(element, ...children) {
  const key = element.contains(document.activeElement) ? document.activeElement.closest("[data-focus]")?.dataset.focus : null;
  const open = new Set([...element.querySelectorAll("details[open] > summary")].map((summary) => summary.textContent));
  element.replaceChildren();
  add(element, children);
  if (open.size) for (const summary of element.querySelectorAll("summary")) if (open.has(summary.textContent)) summary.parentElement.open = true;
  if (key) focus(key, element);
  return element;
}

/** Gives the focus to what has this key. */
export function focus(key, within = document) {
  for (const element of within.querySelectorAll("[data-focus]")) if (element.dataset.focus === key) return element.focus({preventScroll: true});
}

/** An address of the web: others, such as `javascript:`, lead nowhere. */
export const isWeb = (address) => /^https?:\/\//.test(address ?? "");

export const link = (href, attributes, ...children) => h("a", {href, "data-link": true, ...attributes}, ...children);

/** An address of this dashboard from names, whatever is in them. */
export const path = (...parts) => "/" + parts.map(encodeURIComponent).join("/");

let said = "";
/** Says something to a screen reader, once. */
export function say(text) {
  if (text === said) return;
  said = text;
  document.getElementById("say").textContent = text;
}

/** 3412 as 3,412. */
export const grouped = (n) => Number(n).toLocaleString("en-US");

/** A ratio of bad requests. */
export function ratio(counts) {
  if (!counts || !counts.total) return "–";
  const share = (100 * counts.bad) / counts.total;
  return (share === 0 ? "0" : share < 0.1 ? share.toFixed(3) : share < 10 ? share.toFixed(2) : share.toFixed(1)) + " %";
}

/** Seconds in at most two units, as the command line has them. */
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  const two = (n) => String(n).padStart(2, "0");
  if (s < 60) return `${s}s`;
  if (s < 3600) return s % 60 && s < 600 ? `${Math.floor(s / 60)}m${two(s % 60)}s` : `${Math.floor(s / 60)}m`;
  if (s < 86400) return `${Math.floor(s / 3600)}h${two(Math.floor((s % 3600) / 60))}m`;
  return `${Math.floor(s / 86400)}d${Math.floor((s % 86400) / 3600)}h`;
}

// The API server's clock counts, and a browser's may be wrong.
let ahead = 0;
export const clock = (iso) => { ahead = Date.parse(iso) - Date.now(); };
export const now = () => Date.now() + ahead;

/** A time that goes on: "38s ago", "in 12s". All of them are renewed together. */
export function when(iso, {before = "", after = "", words = true} = {}) {
  const element = h("time", {datetime: iso, title: local(iso)});
  element.tick = () => {
    const seconds = (now() - Date.parse(iso)) / 1000;
    const text = !words ? span(Math.abs(seconds)) : seconds >= 0 ? `${span(seconds)} ago` : `in ${span(-seconds)}`;
    element.textContent = before + text + after;
  };
  element.tick();
  return element;
}

setInterval(() => {
  if (!document.hidden) for (const element of document.querySelectorAll("time")) element.tick?.();
}, 1000);

export const local = (iso) => new Date(iso).toLocaleString(undefined, {dateStyle: "medium", timeStyle: "medium"}) + " · " + iso;
export const utc = (iso) => iso.slice(0, 16).replace("T", " ") + "Z";
export const hour = (iso) => iso.slice(11, 19) + "Z";

const TONES = {
  Healthy: "good", Within: "good", Promoted: "good", Safe: "good", Met: "good", Applied: "good", Passed: "good",
  Progressing: "busy", Initializing: "busy", RollingBack: "bad", Paused: "wait", Running: "busy", Open: "wait",
  RolledBack: "bad", Degraded: "bad", RollBack: "bad", NotMet: "bad", Beyond: "bad", Aborted: "bad", Inconclusive: "wait",
  Failed: "bad", Expired: "wait", NoData: "wait", Superseded: "quiet", Continue: "busy",
};
const SIGNS = {good: "✓", bad: "✕", wait: "‖", busy: "▸", quiet: "·"};
export const tone = (word) => TONES[word] ?? "quiet";

/** A word with the colour and the sign of what it means: colour alone says nothing. */
export const chip = (word, more = "") =>
  h("span", {class: `chip ${tone(word)} ${more}`}, h("span", {"aria-hidden": "true"}, SIGNS[tone(word)] + " "), words(word));

/** RolledBack as "Rolled back". */
export function words(camel) {
  const text = String(camel).replace(/([a-z0-9])([A-Z])/g, (_, a, b) => `${a} ${b.toLowerCase()}`);
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Advice of the documents: what is between backticks is code, and in a command `NAME` is this service's. */
export const marked = (text, name) => text.split("`").map((part, i) =>
  i % 2 ? h("code", {}, part.replace(/\bNAME\b/g, name).replace(/ --revision R$/, "")) : part);

/**
 * A table with headers that a screen reader tells: columns are [title, cell, class]. On a phone each row is a card whose cells
 * have their column's title beside them: the roles keep it a table where the layout is none.
 */
export function table(caption, columns, items, attributes = {}) {
  const cell = (item, [title, of, kind], i) => i === 0
    ? h("th", {scope: "row", role: "rowheader", class: kind, "data-label": title}, of(item))
    : h("td", {role: "cell", class: kind, "data-label": title}, of(item));
  return h("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": caption},
    h("table", {role: "table", ...attributes},
      h("caption", {class: "hidden"}, caption),
      h("thead", {role: "rowgroup"}, h("tr", {role: "row"}, columns.map(([title, , kind]) => h("th", {scope: "col", role: "columnheader", class: kind}, title)))),
      h("tbody", {role: "rowgroup"}, items.map((item) => h("tr", {role: "row"}, columns.map((column, i) => cell(item, column, i)))))));
}

export const section = (title, attributes, ...children) => {
  const id = "h-" + title.toLowerCase().replace(/[^a-z]+/g, "-");
  return h("section", {"aria-labelledby": id, ...attributes}, h("h2", {id}, title), ...children);
};
