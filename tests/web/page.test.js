// The page in a real browser against the real server and model: Debian's Chromium, driven by playwright.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

import { MODEL, Server } from "../js/allerac.js";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
/** Screenshots go here when it is set. */
const SHOTS = process.env.ALLERAC_SCREENSHOTS;
/** The starter model sometimes goes on to its longest, on a busy machine at 20 tokens a second. */
const ANSWER_MS_MAX = 150_000;
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
  .concat(["--disable-component-update", "--disable-sync"]);

let server, browser, key;
/** Requests to other hosts, console errors and violations of the policy, over all tests. */
const offences = [];

before(async () => {
  server = await Server.start();
  browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

async function open(options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on("request", (request) => {
    if (!request.url().startsWith(server.url)) offences.push(`request to ${request.url()}`);
  });
  page.on("pageerror", (error) => offences.push(`error: ${error.message}`));
  page.on("console", (message) => {
    // The browser reports every answer of 4xx; those are what the tests provoke.
    const provoked = message.text().startsWith("Failed to load resource");
    if (message.type() === "error" && !provoked) offences.push(`console: ${message.text()}`);
  });
  await page.goto(server.url);
  return page;
}

async function shot(page, name) {
  if (!SHOTS) return;
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name}.png`) });
}

async function signIn(options) {
  const page = await open(options);
  await page.getByLabel("Key").fill(key);
  await page.getByRole("button", { name: "Enter" }).click();
  await page.getByLabel("Model").waitFor();
  return page;
}

async function ask(page, question) {
  await page.getByLabel("Message").fill(question);
  await page.getByLabel("Message").press("Enter");
}

function code() {
  return /[0-9A-Z]{4}-[0-9A-Z]{4}/.exec(server.log)[0];
}

test("a wrong code is refused in words, the right one claims the box and gives a key once", async () => {
  const page = await open();
  await page.getByLabel("Claim code").fill("AAAA-AAAA");
  await page.getByLabel("Your name").fill("Anna");
  await page.getByRole("button", { name: "Claim the box" }).click();
  assert.match(await page.getByRole("alert").innerText(), /not the claim code/i);
  await shot(page, "claim");
  await page.getByLabel("Claim code").fill(code().toLowerCase().replace("-", ""));
  await page.getByRole("button", { name: "Claim the box" }).click();
  await page.getByRole("heading", { name: "The box is yours, Anna" }).waitFor();
  key = await page.locator("pre code").first().innerText();
  assert.match(key, /^sk-allerac-[a-z2-7]{12}-[\w-]{43}$/);
  await page.getByText("Use it from a program").click();
  assert.ok((await page.locator("pre").nth(1).innerText()).includes(key), "the snippet is ready to paste");
  await shot(page, "key");
  await page.getByRole("button", { name: /start chatting/ }).click();
  assert.equal(await page.getByLabel("Model").inputValue(), MODEL);
  await page.context().close();
});

test("a claimed box asks for a key and says when it does not open", async () => {
  const page = await open();
  await page.getByLabel("Key").fill("sk-allerac-wrong");
  await page.getByRole("button", { name: "Enter" }).click();
  assert.match(await page.getByRole("alert").innerText(), /does not open the box/);
  await page.context().close();
});

test("an answer streams in, tells its speed and place, and is there after a reload", async () => {
  const page = await signIn();
  await ask(page, "What is 2+2? Answer in one short sentence.");
  await page.getByRole("button", { name: "Stop" }).waitFor();
  const note = page.getByTestId("note");
  await note.waitFor({ timeout: ANSWER_MS_MAX });
  assert.match(await note.innerText(), /^\d+\.\d tokens\/s · first word after \d+\.\d s · on this box/);
  const answer = await page.locator("li.assistant p").first().innerText();
  assert.ok(answer.length > 0);
  await shot(page, "chat");
  await page.reload();
  assert.equal(await page.locator("li.assistant p").first().innerText(), answer);
  await page.getByRole("button", { name: "New chat" }).click();
  assert.equal(await page.locator("li").count(), 0);
  await page.context().close();
});

test("stop ends an answer and keeps what came", async () => {
  const page = await signIn();
  await ask(page, "Tell me a very long story about a dragon and a village, with many chapters.");
  await page.locator("li.assistant p:not(.thinking)").first().waitFor({ timeout: ANSWER_MS_MAX });
  await page.getByRole("button", { name: "Stop" }).click();
  assert.equal(await page.getByTestId("note").innerText(), "stopped");
  assert.ok((await page.locator("li.assistant p").first().innerText()).length > 0);
  await page.context().close();
});

test("what cannot be answered is explained and the question is not lost", async () => {
  const page = await signIn();
  await page.route("**/v1/chat/completions", (route) => route.abort());
  await ask(page, "Are you there?");
  assert.match(await page.getByRole("alert").innerText(), /cannot be reached/);
  assert.equal(await page.getByLabel("Message").inputValue(), "Are you there?");
  await page.context().close();
});

test("text of a model is never taken for HTML", async () => {
  const page = await signIn();
  const delta = (content) => `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content }, finish_reason: null }] })}\n\n`;
  const body = delta("<img src=x onerror=alert(1)>\n```\n<b>code</b>\n```") + "data: [DONE]\n\n";
  await page.route("**/v1/chat/completions", (route) => route.fulfill({ contentType: "text/event-stream", body }));
  await ask(page, "Show me HTML.");
  await page.locator("li.assistant pre").waitFor();
  assert.equal(await page.locator("li.assistant img").count(), 0);
  assert.equal(await page.locator("li.assistant pre").innerText(), "<b>code</b>");
  await page.context().close();
});

test("it is readable on a phone, in the dark too", async () => {
  const phone = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, colorScheme: "dark" };
  const page = await signIn(phone);
  await ask(page, "What is 2+2? Answer in one short sentence.");
  await page.getByTestId("note").waitFor({ timeout: ANSWER_MS_MAX });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(overflow, 0);
  await shot(page, "phone-dark");
  await page.context().close();
});

test("nothing left the box and nothing broke the policy", () => {
  assert.deepEqual(offences, []);
});
