// The view of models, in a real browser against the real server, which measures this machine.

import assert from "node:assert/strict";
import { test } from "node:test";

import { MODEL } from "../js/allerac.js";
import { offences, open, server, shot } from "./browser.js";

/** Measuring takes seconds, and longer beside other tests. */
const MEASURE_MS_MAX = 100_000;
const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, colorScheme: "dark" };

let owner;

async function models(options, key = owner) {
  const page = await open(options);
  await page.getByLabel("Key").fill(key);
  await page.getByRole("button", { name: "Enter" }).click();
  await page.getByRole("button", { name: "Account" }).click();
  await page.getByRole("tab", { name: "Models" }).click();
  return page;
}

const catalogue = (page) => page.getByRole("list", { name: "Models to be fetched" });
const installed = (page) => page.getByRole("list", { name: "Installed models" });
const row = (list, name) => list.getByRole("listitem").filter({ hasText: name });

test("the owner sees what is installed and what each model of the catalogue would do", async () => {
  owner = await server.claim("Olga");
  const page = await models();
  const here = row(installed(page), MODEL);
  await here.getByText(/98\.4 MB · in memory, \d+(\.\d)? [MG]B/).waitFor();
  await here.getByText("answers by default").waitFor();
  const small = row(catalogue(page), "Llama 3.2 1B Instruct");
  await small.getByText(/^\s*(runs well|runs|slow) · (about|less than) [\d.]+ tokens\/s/).waitFor({ timeout: MEASURE_MS_MAX });
  assert.equal(await row(catalogue(page), "SmolLM2 135M").count(), 0, "what is here is not to be fetched");
  // A licence that asks is read and accepted first.
  const fetch = small.getByRole("button", { name: "Fetch Llama 3.2 1B Instruct" });
  assert.ok(await fetch.isDisabled());
  assert.match(await small.getByRole("link").getAttribute("href"), /llama\.com/);
  await small.getByRole("checkbox").check();
  assert.ok(await fetch.isEnabled());
  await shot(page, "models");
  await page.context().close();
});

test("a download says what stands in its way, and a model that is removed is gone", async () => {
  const page = await models(PHONE);
  const small = row(catalogue(page), "Qwen2.5 0.5B Instruct");
  await small.waitFor({ timeout: MEASURE_MS_MAX });
  // Nothing beyond this machine is reached in tests.
  await page.route("**/api/pull", (route) =>
    route.fulfill({
      contentType: "application/x-ndjson",
      body: '{"status":"pulling manifest"}\n{"error":"the hub does not answer; is this box on the internet?"}\n',
    }),
  );
  await small.getByRole("button", { name: /^Fetch/ }).click();
  assert.match(await page.getByRole("alert").innerText(), /The hub does not answer; is this box on the internet\?/);
  const wider = (element) => element.scrollWidth - element.clientWidth;
  assert.equal(await page.locator("dialog.panel").evaluate(wider), 0);
  await shot(page, "models-phone");
  await page.getByRole("button", { name: `Remove ${MODEL}` }).click();
  await page.getByText("None yet: fetch one.").waitFor();
  await row(catalogue(page), "SmolLM2 135M Instruct").waitFor({ timeout: MEASURE_MS_MAX });
  await page.context().close();
});

test("who may not look after the box has no such view", async () => {
  const page = await open();
  await page.getByLabel("Key").fill(server.createKey("kid"));
  await page.getByRole("button", { name: "Enter" }).click();
  await page.getByRole("button", { name: "Account" }).click();
  await page.getByRole("tab", { name: "Security" }).waitFor();
  assert.equal(await page.getByRole("tab", { name: "Models" }).count(), 0);
  await page.context().close();
});

test("nothing was asked of other hosts, and no script failed", () => assert.deepEqual(offences, []));
