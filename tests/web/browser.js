// A real browser against the real server: Debian's Chromium, driven by playwright.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before } from "node:test";
import { chromium } from "playwright-core";

import { Server } from "../js/allerac.js";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
/** Screenshots go here when it is set. */
const SHOTS = process.env.ALLERAC_SCREENSHOTS;
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
  .concat(["--disable-component-update", "--disable-sync"]);

export let server, browser;
/** Requests to other hosts, page errors and violations of the policy, over all tests of a file. */
export const offences = [];

/** What a file's tests need before the server, whose configuration it may return lines of, and once it runs. */
export const setup = { prepare: async () => "", ready: () => undefined };

before(async () => {
  // Hooks begin while files are still being read: the one that imports this says first what it needs.
  await new Promise(setImmediate);
  server = await Server.start(await setup.prepare());
  setup.ready();
  browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** `others` are addresses beside the box's own that the page may lead to. */
export async function open(options = {}, address = server.url, others = []) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const allowed = [new URL(address).origin, ...others];
  page.on("request", (request) => {
    // What the others' own pages ask for is theirs.
    if (others.includes(new URL(request.frame().url() || "about:blank").origin)) return;
    if (!allowed.includes(new URL(request.url()).origin)) offences.push(`request to ${request.url()}`);
  });
  page.on("pageerror", (error) => offences.push(`error: ${error.message}`));
  page.on("console", (message) => {
    // The browser reports every answer of 4xx; those are what the tests provoke.
    const provoked = message.text().startsWith("Failed to load resource");
    if (message.type() === "error" && !provoked) offences.push(`console: ${message.text()}`);
  });
  page.on("dialog", (dialog) => dialog.accept());
  await page.goto(address);
  return page;
}

export async function shot(page, name) {
  if (!SHOTS) return;
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name}.png`) });
}

/** Chooses, and waits until the server has it: the page shows what was chosen before that. */
export async function choose(page, label, value) {
  const changed = page.waitForResponse((response) => response.request().method() !== "GET");
  await page.getByLabel(label).selectOption(value);
  await (await changed).finished();
}
