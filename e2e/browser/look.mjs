// Looks at a dashboard as people do: by mouse, by keyboard, on a phone, in the dark; and measures what that takes.
// MOLT_LINK opens it; MOLT_SIGN_IN and MOLT_TOKEN, when set, are another one where one signs in. Pictures go to MOLT_OUT.

import {readFileSync} from "node:fs";
import {createRequire} from "node:module";
import {chromium} from "playwright-core";

const {MOLT_LINK, MOLT_SIGN_IN, MOLT_TOKEN, MOLT_OUT = "."} = process.env;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const base = new URL(MOLT_LINK).origin;
const problems = [];
const check = (ok, what) => { console.log(`${ok ? "ok  " : "FAIL"} ${what}`); if (!ok) problems.push(what); };

const browser = await chromium.launch({executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb"]});

/** A window of its own; what goes wrong in it is told. `cookies`: signed in as another one is. */
async function open({cookies, width = 1280, height = 900, dark = false, bypassCSP = false, phone = false} = {}) {
  const context = await browser.newContext({viewport: {width, height}, colorScheme: dark ? "dark" : "light", bypassCSP, isMobile: phone, hasTouch: phone, deviceScaleFactor: phone ? 2 : 1, locale: "en-GB", timezoneId: "UTC", reducedMotion: "reduce"});
  if (cookies) await context.addCookies(cookies);
  const page = await context.newPage();
  page.on("pageerror", (error) => check(false, `script: ${error.message}`));
  page.on("console", (message) => { if (message.type() === "error" && !/status of (401|403|404|409|503)/.test(message.text())) check(false, `console: ${message.text()}`); });
  return {context, page};
}

const service = (name) => `${base}/ns/shop/services/${name}`;

// The link opens it, once.
const first = await open();
const requests = [];
first.page.on("response", async (response) => {
  if (new URL(response.url()).pathname === "/api/stream") return;
  const body = await response.body().catch(() => Buffer.alloc(0));
  requests.push([new URL(response.url()).pathname, body.length]);
});
await first.page.goto(MOLT_LINK);
await first.page.waitForSelector(".needs .card.service");
check(new URL(first.page.url()).search === "", "the link's word does not stay in the address");
const cookies = await first.context.cookies();
const stranger = await open();
await stranger.page.goto(MOLT_LINK);
await stranger.page.waitForSelector("text=This link has been used");
check(true, "the link opens once");
await stranger.context.close();

const paint = await first.page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
const bytes = requests.filter(([path]) => path.startsWith("/assets") || path === "/").reduce((sum, [, length]) => sum + length, 0);
console.log(`size: page, styles and scripts ${(bytes / 1024).toFixed(1)} KiB in ${requests.length} requests; first contentful paint ${Math.round(paint)} ms`);
check(bytes < 150 * 1024, "it is smaller than 150 KiB");
check(paint < 1000, "first paint is under 1 s");

// What names and messages say is text.
const wicked = await first.page.evaluate(() => ({images: document.querySelectorAll("main img").length, hit: window.pwned, told: document.body.textContent.includes("<img src=x")}));
check(wicked.images === 0 && !wicked.hit && wicked.told, "markup in messages is shown as text");

// In ten seconds: what needs a person stands first.
const headings = await first.page.$$eval("main h2", (all) => all.filter((h) => h.offsetParent).map((h) => h.textContent));
check(headings.join() === "Needs a person,Moving,Quiet", `what needs a person first, then what moves: ${headings}`);

/** A picture of a page, as large as its window. */
async function picture(name, address, options, ready, full = false) {
  const {context, page} = await open({cookies, ...options});
  await page.goto(address);
  await page.waitForSelector(ready);
  await page.waitForTimeout(700);
  await page.screenshot({path: `${MOLT_OUT}/${name}.png`, fullPage: full});
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  check(wide <= 0, `${name}: nothing is wider than the window`);
  const hid = await page.$$eval(".scroll", (all) => all.filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.ariaLabel));
  if (options.phone) check(hid.length === 0, `${name}: no table has to be moved sideways: ${hid}`);
  await context.close();
}
await picture("dashboard-fleet", `${base}/`, {}, ".moves .card.service");
await picture("dashboard-fleet-dark", `${base}/`, {dark: true}, ".moves .card.service");
await picture("dashboard-fleet-phone", `${base}/`, {width: 390, height: 844, phone: true}, ".moves .card.service");
await picture("dashboard-service", service("checkout"), {height: 1500}, ".charts .line");
await picture("dashboard-service-phone", service("checkout"), {width: 390, height: 844, phone: true, dark: true}, ".evidence");

// The record of what was taken back, by its link.
const page = first.page;
await page.goto(service("payments"));
await page.click("text=The record, for a post-mortem");
await page.waitForSelector("text=This address stays");
const record = page.url();
check(/\/ns\/shop\/records\/payments-[0-9a-f]{10}-1$/.test(record), `the record has an address: ${new URL(record).pathname}`);
await picture("dashboard-record", record, {height: 1400}, ".charts .line");

// Accessibility, on every page, in light and dark.
for (const dark of [false, true]) {
  for (const [name, address, ready] of [["fleet", `${base}/`, ".card.service"], ["service", service("checkout"), ".evidence"], ["record", record, ".charts"], ["records", `${base}/records`, "tbody tr"]]) {
    const {context, page} = await open({cookies, dark, bypassCSP: true});
    await page.goto(address);
    await page.waitForSelector(ready);
    await page.addScriptTag({content: axe});
    const {violations, passes} = await page.evaluate(() => globalThis.axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}));
    for (const v of violations) console.log(`     ${v.impact} ${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.target.join(" ")).join("; ")}`);
    check(violations.length === 0, `accessibility of ${name}${dark ? " in the dark" : ""}: ${passes.length} rules hold, ${violations.length} do not`);
    await context.close();
  }
}

// By keyboard alone: to a service, to the question, back, and to an action.
const keys = await open({cookies});
await keys.page.goto(service("checkout"));
await keys.page.waitForSelector("button:has-text('Pause')");
await keys.page.focus("body");
let found = false;
for (let i = 0; i < 60 && !found; i++) {
  await keys.page.keyboard.press("Tab");
  found = await keys.page.evaluate(() => document.activeElement.textContent.startsWith("Pause"));
}
check(found, "the keyboard comes to the actions");
await keys.page.keyboard.press("Enter");
await keys.page.waitForSelector("dialog[open]");
check(await keys.page.evaluate(() => document.activeElement.id === "reason"), "the question has the focus");
await keys.page.screenshot({path: `${MOLT_OUT}/dashboard-action.png`});
await keys.page.keyboard.press("Escape");
await keys.page.waitForSelector("dialog", {state: "detached"});
check(await keys.page.evaluate(() => document.activeElement.textContent.startsWith("Pause")), "Escape asks nothing, and the focus is back");
await keys.page.keyboard.press("Enter");
await keys.page.keyboard.type("INC-12: looking at it");
const began = Date.now();
await keys.page.keyboard.press("Enter");
await keys.page.waitForSelector("dialog .applied");
await keys.page.keyboard.press("Enter");
await keys.page.waitForSelector("h1 + .chip:has-text('Paused')");
console.log(`action: paused and shown ${Date.now() - began} ms after it was confirmed`);
check((await keys.page.textContent(".why.large")).includes("INC-12"), "who paused it and why is shown");

// A service that is deleted while it is looked at is left to the caller: it prints the word that it waits for.
if (process.env.MOLT_DELETED) {
  await keys.page.goto(service(process.env.MOLT_DELETED));
  await keys.page.waitForSelector(".service-head");
  console.log(`DELETE ${process.env.MOLT_DELETED}`);
  await keys.page.waitForSelector("text=This PythonService was deleted", {timeout: 20_000});
  check(true, "a service that is deleted while it is open is told of");
  check(await keys.page.$$eval(".acts, .traffic, .bad-edge, .pods", (all) => all.every((e) => !e.offsetParent)), "nothing live is left of it, and nothing to be asked");
}
await keys.context.close();

// Signing in by a token, and without rights.
if (MOLT_SIGN_IN) {
  const {context, page} = await open();
  await page.goto(MOLT_SIGN_IN);
  await page.waitForSelector("#token");
  await page.screenshot({path: `${MOLT_OUT}/dashboard-sign-in.png`});
  await page.fill("#token", "wrong");
  await page.click("button:has-text('Sign in')");
  await page.waitForSelector(".problem:has-text('does not accept')");
  check(true, "a wrong token is told of");
  await page.fill("#token", MOLT_TOKEN);
  await page.click("button:has-text('Sign in')");
  await page.waitForSelector("text=You may not list PythonServices");
  check(true, "who may see nothing is told so");
  await page.goto(`${MOLT_SIGN_IN}/ns/shop/services/checkout`);
  await page.waitForSelector("text=You may not see this service");
  check((await page.evaluate(() => document.cookie)) === "", "no script can read the token");
  await page.click("text=Sign out");
  await page.waitForSelector("#token");
  check(true, "signing out ends it");
  await context.close();
}
await first.context.close();
await browser.close();
console.log(problems.length ? `${problems.length} failed` : "all is well");
process.exit(problems.length ? 1 : 0);
