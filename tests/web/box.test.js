// What owners look after at the page: teams, plans, usage, the audit log, names and passwords of people.

import assert from "node:assert/strict";
import { test } from "node:test";

import { MODEL } from "../js/allerac.js";
import { choose, offences, open, server, shot } from "./browser.js";

const PASSWORD = "correct horse battery";
const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, colorScheme: "dark" };

const cli = (...parts) => JSON.parse(server.cli(...parts, "--json"));
const inside = (page) => page.getByRole("heading", { name: "Ask your box" }).waitFor();

async function look(view, options) {
  const page = await open(options);
  await page.getByLabel("Name").fill("olga");
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await inside(page);
  await page.getByRole("button", { name: "Account" }).click();
  await page.getByRole("tab", { name: view }).click();
  return page;
}

async function noOverflow(page) {
  assert.equal(await page.locator("dialog.panel").evaluate((element) => element.scrollWidth - element.clientWidth), 0);
}

test("a team is made, joined, given another plan, and removed", async () => {
  const key = await server.claim("Olga");
  server.cli("users", "password", "Olga", { input: PASSWORD });
  server.cli("users", "add", "anna");
  server.cli("users", "add", "ben", "--role", "child", "--plan", "starter");
  assert.ok(key);
  const page = await look("Teams", PHONE);
  await page.getByText("There are no teams.").waitFor();
  await page.getByLabel("Name").fill("shop");
  await page.locator("dialog form").getByLabel("Plan").selectOption("pro");
  await page.getByRole("button", { name: "Make a team" }).click();
  await page.getByLabel("Add to shop").selectOption("anna");
  await page.getByRole("button", { name: "Take anna out of shop" }).waitFor();
  await page.getByLabel("Add to shop").selectOption("ben");
  await page.getByRole("button", { name: "Take ben out of shop" }).waitFor();
  await shot(page, "teams-phone");
  await noOverflow(page);
  await page.getByLabel("Plan of shop").selectOption("starter");
  await page.getByRole("button", { name: "Take ben out of shop" }).click();
  await page.getByRole("button", { name: "Take ben out of shop" }).waitFor({ state: "detached" });
  const [shop] = cli("teams", "list");
  assert.deepEqual([shop.team, shop.plan, shop.members], ["shop", "starter", ["anna"]]);
  // A name that is taken is told of, and nothing is lost.
  await page.getByLabel("Name").fill("anna");
  await page.getByRole("button", { name: "Make a team" }).click();
  assert.match(await page.getByRole("alert").innerText(), /called anna already/);
  await page.getByRole("button", { name: "Remove team shop" }).click();
  await page.getByText("There are no teams.").waitFor();
  assert.deepEqual(cli("teams", "list"), []);
  await page.context().close();
});

test("a plan is made like another, changed, and given to somebody", async () => {
  const page = await look("Plans");
  await page.getByLabel("Name").fill("kids");
  await page.getByLabel("Begins like").selectOption("starter");
  await page.getByRole("button", { name: "Make a plan" }).click();
  await page.getByRole("button", { name: "Change kids" }).click();
  await page.getByLabel("Tokens a month").fill("1234");
  await page.getByLabel("Requests a minute").fill("");
  await page.getByLabel("Requests at once").fill("2");
  await page.getByLabel("Models", { exact: true }).fill("smol*, tiny");
  await shot(page, "plans");
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await page.getByText(/^1,234 tokens a month/).waitFor();
  const { limits } = await page.evaluate(async () => (await fetch("/v1/admin/plans/kids")).json());
  assert.deepEqual(
    [limits.tokens_a_month, limits.requests_a_minute, limits.concurrency, limits.models, limits.upstreams],
    [1234, null, 2, ["smol*", "tiny"], false],
  );
  await page.getByRole("button", { name: "Change kids" }).click();
  await page.getByLabel("Tokens a minute").fill("0");
  await page.getByRole("button", { name: "Save", exact: true }).click();
  assert.ok((await page.getByRole("alert").innerText()).length > 10, "what cannot be is told of");
  await page.getByRole("tab", { name: "People" }).click();
  await choose(page, "Plan of ben", "kids");
  assert.equal(cli("users", "list").find(({ user }) => user === "ben").plan, "kids");
  await page.context().close();
});

test("somebody is called otherwise, and sets a password by a link", async () => {
  const page = await look("People", PHONE);
  await page.getByRole("button", { name: "More about ben" }).click();
  await page.getByLabel("New name of ben").fill("Benjamin");
  await page.getByRole("button", { name: "Rename" }).click();
  await page.getByRole("button", { name: "More about Benjamin" }).click();
  await page.getByRole("button", { name: "Link to set a password" }).click();
  const link = await page.locator("dialog pre code").innerText();
  await page.getByRole("button", { name: "Remove Benjamin" }).scrollIntoViewIfNeeded();
  await shot(page, "person-more-phone");
  await noOverflow(page);
  await page.context().close();
  const his = await open(PHONE, link);
  await his.getByRole("heading", { name: "Hello, Benjamin" }).waitFor();
  await his.getByLabel("New password").fill(PASSWORD);
  await his.getByRole("button", { name: "Set password" }).click();
  await inside(his);
  await his.context().close();
});

test("what the box was used for stands by person and by model", async () => {
  for (const [user, times] of [["anna", 2], ["Benjamin", 1]]) {
    const client = server.client(server.createKey(user));
    for (let time = 0; time < times; time++) {
      const messages = [{ role: "user", content: "hi" }];
      await client.chat.completions.create({ model: MODEL, max_tokens: 3, messages });
    }
  }
  const page = await look("Usage", PHONE);
  const rows = (title) => page.locator(`.wide-table:has(th:text("${title}")) tbody tr`);
  await rows("By person").first().waitFor();
  const cells = async (row) => (await row.locator("td").allInnerTexts()).slice(0, 2).map((text) => text.trim());
  assert.deepEqual(await cells(rows("By person").first()), ["anna", "2"]);
  assert.deepEqual(await cells(rows("By person").nth(1)), ["Benjamin", "1"]);
  assert.deepEqual(await cells(rows("By model").first()), [MODEL, "3"]);
  assert.equal(await rows("By person").first().locator("td").nth(4).innerText(), "6");
  await shot(page, "usage-phone");
  await noOverflow(page);
  await page.context().close();
});

test("what was done is found, and the log is seen to be whole", async () => {
  const page = await look("Audit");
  await page.getByText(/^The log is whole: \d+ entries/).waitFor();
  await page.getByLabel("About").selectOption({ label: "People" });
  await page.getByLabel("Who, or what").fill("ben");
  await page.getByRole("button", { name: "Search" }).click();
  await page.getByText("after: Benjamin").waitFor();
  const all = await page.locator("dialog .rows strong").allInnerTexts();
  assert.deepEqual(all, ["user.rename", "user.change", "user.add"]);
  await shot(page, "audit");
  await page.getByLabel("Who, or what").fill("nobody");
  await page.getByRole("button", { name: "Search" }).click();
  await page.getByText("Nothing of this was done.").waitFor();
  await page.context().close();
});

test("what only a box of the image can do is not offered elsewhere", async () => {
  const page = await look("System", PHONE);
  await page.getByText("This server does not run on Allerac's own image").waitFor();
  assert.equal(await page.getByRole("button", { name: /Restart|Erase|Install|Save the log/ }).count(), 0);
  await noOverflow(page);
  await page.context().close();
});

test("nothing left the box and nothing broke the policy", () => {
  assert.deepEqual(offences, []);
});
