// The page in a real browser against the real server and model.

import assert from "node:assert/strict";
import { test } from "node:test";

import { MODEL } from "../js/allerac.js";
import { browser, offences, open, server, shot } from "./browser.js";

/** The starter model sometimes goes on to its longest, on a busy machine at 20 tokens a second. */
const ANSWER_MS_MAX = 150_000;

let key;

/** The models are there: before, nothing can be asked. */
async function ready(page) {
  await page.getByLabel("Model").locator("option").first().waitFor({ state: "attached" });
}

async function signIn(options) {
  const page = await open(options);
  await page.getByLabel("Key").fill(key);
  await page.getByRole("button", { name: "Enter" }).click();
  await ready(page);
  return page;
}

/** A whole streamed answer, as a route fulfils it. */
function stream(pieces) {
  const event = (content) => `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content }, finish_reason: null }] })}\n\n`;
  return { contentType: "text/event-stream", body: pieces.map(event).join("") + "data: [DONE]\n\n" };
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
  await ready(page);
  assert.equal(await page.getByLabel("Model").inputValue(), MODEL);
  await page.context().close();
});

test("a claimed box asks for a key and says when it does not open", async () => {
  const page = await open();
  await page.getByLabel("Key").fill("sk-allerac-wrong");
  await page.getByRole("button", { name: "Enter" }).click();
  assert.match(await page.getByRole("alert").innerText(), /does not know this key/);
  await page.context().close();
});

const note = (page) => page.locator(".turns > li").last().locator(".note");
const alert = (page) => page.getByRole("alert");

test("an answer streams in, tells its speed and place, and is there after a reload", async () => {
  const page = await signIn();
  await ask(page, "What is 2+2? Answer in one short sentence.");
  await page.getByRole("button", { name: "Stop" }).waitFor();
  await note(page).waitFor({ timeout: ANSWER_MS_MAX });
  const pattern = /^(cut at its longest · )?on this box · \d+(\.\d)? tokens\/s · first word after \d+\.\d s · \d+ tokens$/;
  assert.match(await note(page).innerText(), pattern);
  const answer = await page.locator("li.assistant").innerText();
  assert.ok(answer.length > 0);
  await shot(page, "chat");
  await page.reload();
  assert.equal(await page.locator("li.assistant").innerText(), answer);
  await page.context().close();
});

test("chats are listed, opened again and deleted, and a text not sent yet survives a reload", async () => {
  const page = await signIn();
  await page.route("**/v1/chat/completions", (route) => route.fulfill(stream(["One ", "two."])));
  await ask(page, "Count.");
  await note(page).waitFor();
  await page.getByRole("button", { name: "New chat" }).click();
  assert.equal(await page.locator(".turns li").count(), 0);
  await ask(page, "Count once more.");
  await note(page).waitFor();
  await page.getByLabel("Message").fill("half a thou");
  await page.reload();
  assert.equal(await page.getByLabel("Message").inputValue(), "half a thou");
  await page.getByRole("button", { name: "Chats" }).click();
  await shot(page, "chats");
  await page.getByRole("button", { name: /^Count\. / }).click();
  assert.equal(await page.locator("li.user").innerText(), "Count.");
  await page.getByRole("button", { name: "Chats" }).click();
  await page.getByRole("button", { name: "Delete Count.", exact: true }).click();
  assert.equal(await page.locator(".turns li").count(), 0);
  assert.equal(await page.locator(".chats li").count(), 1);
  await page.getByRole("button", { name: "Sign out of this browser" }).click();
  await page.getByRole("heading", { name: /^Welcome to/ }).waitFor();
  const kept = await page.evaluate(() => Object.keys(localStorage).filter((name) => name !== "allerac.model"));
  assert.deepEqual(kept, []);
  await page.context().close();
});

test("stop ends an answer and keeps what came", async () => {
  const page = await signIn();
  await ask(page, "Tell me a very long story about a dragon and a village, with many chapters.");
  await page.locator("li.assistant p:not(.thinking)").first().waitFor({ timeout: ANSWER_MS_MAX });
  await page.getByRole("button", { name: "Stop" }).click();
  assert.match(await note(page).innerText(), /^stopped · on this box · first word after \d+\.\d s$/);
  assert.ok((await page.locator("li.assistant p").first().innerText()).length > 0);
  await page.getByRole("button", { name: "Ask again" }).waitFor();
  await page.context().close();
});

test("what cannot be answered is explained, and the question is asked again or changed", async () => {
  const page = await signIn();
  await page.route("**/v1/chat/completions", (route) => route.abort());
  await ask(page, "Are you there?");
  assert.match(await alert(page).innerText(), /cannot be reached/);
  await shot(page, "unreachable");
  await page.unroute("**/v1/chat/completions");
  const body = stream(["Yes."]);
  let asked;
  await page.route("**/v1/chat/completions", (route) => {
    asked = route.request().postDataJSON().messages;
    return route.fulfill(body);
  });
  await page.getByRole("button", { name: "Ask again" }).click();
  await note(page).waitFor();
  assert.deepEqual(asked, [{ role: "user", content: "Are you there?" }]);
  assert.equal(await alert(page).count(), 0);
  await page.unroute("**/v1/chat/completions");
  await page.route("**/v1/chat/completions", (route) => route.fulfill({ ...body, body: body.body.replace("data: [DONE]", "") }));
  await ask(page, "And now?");
  assert.match(await alert(page).innerText(), /broke off/);
  await page.getByRole("button", { name: "Change the question" }).click();
  assert.equal(await page.getByLabel("Message").inputValue(), "And now?");
  assert.equal(await page.locator("li.user").count(), 1);
  await page.context().close();
});

test("a key that is revoked meanwhile is explained, and the chat is there with another one", async () => {
  const other = server.createKey("Ben");
  const page = await open();
  await page.getByLabel("Key").fill(other);
  await page.getByRole("button", { name: "Enter" }).click();
  await ready(page);
  server.cli("keys", "revoke", other.split("-")[2]);
  await ask(page, "Am I welcome?");
  assert.match(await alert(page).innerText(), /does not know this key, or it was revoked/);
  await page.getByRole("button", { name: "Enter another key" }).click();
  await page.getByLabel("Key").fill(key);
  await page.getByRole("button", { name: "Enter" }).click();
  assert.equal(await page.locator("li.user").innerText(), "Am I welcome?");
  await page.context().close();
});

test("text of a model is never taken for HTML", async () => {
  const page = await signIn();
  const text = "<img src=x onerror=alert(1)> [link](http://example.com)\n```html\n<b>code</b>\n```";
  await page.route("**/v1/chat/completions", (route) => route.fulfill(stream([text])));
  await ask(page, "Show me HTML.");
  await page.locator("li.assistant pre").waitFor();
  assert.equal(await page.locator("li.assistant img, li.assistant a").count(), 0);
  assert.equal(await page.locator("li.assistant pre").innerText(), "<b>code</b>");
  await page.context().close();
});

test("it is readable on a phone, in the dark too", async () => {
  const phone = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, colorScheme: "dark" };
  const page = await signIn(phone);
  await ask(page, "What is 2+2? Answer in one short sentence.");
  await note(page).waitFor({ timeout: ANSWER_MS_MAX });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(overflow, 0);
  await shot(page, "phone-dark");
  await page.context().close();
});

/** Swagger draws only what is near the window: goes down the page, and from its top again, until `wanted` is drawn. */
async function scrollTo(page, wanted) {
  const end = Date.now() + ANSWER_MS_MAX;
  for (let y = 0; !(await wanted.count()); y += 400) {
    assert.ok(Date.now() < end, `${wanted} is nowhere on the page`);
    const bottom = await page.evaluate((y) => {
      window.scrollTo(0, y);
      return y + window.innerHeight >= document.documentElement.scrollHeight;
    }, y);
    if (bottom) y = -400;
    await page.waitForTimeout(50);
  }
}

test("the API's description lets its reader try a call with the key that the browser remembers", async () => {
  const page = await signIn({ viewport: { width: 1280, height: 900 } });
  await page.goto(`${server.url}/docs`);
  // One of each heading, each with the example that is there already.
  for (const [name, said, id] of [
    ["get_v1_models", `"${MODEL}"`],
    ["post_v1_chat_completions", '"chat.completion"'],
    ["get_v1_chat_completions", '"has_more"'],
    ["get_v1_responses__id_", "you have no response `resp_1` here", "resp_1"],
    ["get_v1_files", '"has_more"'],
    ["get_v1_batches", '"has_more"'],
    ["post_v1_messages", '"assistant"'],
    ["post_api_chat", '"done_reason"'],
    ["post_api_push", "models are not given away here"],
    ["get_healthz", "ok"],
  ]) {
    const operation = page.locator(`.opblock[id$="-${name}"]`);
    await scrollTo(page, operation);
    await operation.locator(".opblock-summary-control").click();
    if (id) await operation.getByPlaceholder("id", { exact: true }).fill(id);
    await operation.getByRole("button", { name: "Execute" }).click();
    const answer = operation.locator(".live-responses-table").first();
    await answer.getByText(said).first().waitFor({ timeout: ANSWER_MS_MAX });
    await operation.scrollIntoViewIfNeeded();
    await shot(page, `docs-${name}`);
    await operation.locator(".opblock-summary-control").click();
  }
  await page.context().close();
});

test("nothing left the box and nothing broke the policy", () => {
  assert.deepEqual(offences, []);
});
