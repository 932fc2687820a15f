// Signing in, keys, second factors and people, in a real browser against the real server.

import assert from "node:assert/strict";
import { test } from "node:test";

import { browser, choose, offences, open, server, shot } from "./browser.js";
import { totp } from "./totp.js";

const PASSWORD = "correct horse battery";
const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, colorScheme: "dark" };

/** The invitation that one test makes and another takes. */
let link;

const alert = (page) => page.getByRole("alert");
const inside = (page) => page.getByRole("heading", { name: "Ask your box" }).waitFor();

async function fill(page, name, password = PASSWORD) {
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password", { exact: true }).fill(password);
}

async function signIn(name, options) {
  const page = await open(options);
  await fill(page, name);
  await page.getByRole("button", { name: "Sign in" }).click();
  await inside(page);
  return page;
}

async function account(page, view) {
  await page.getByRole("button", { name: "Account" }).click();
  await page.getByRole("tab", { name: view }).click();
}

async function noOverflow(page) {
  const wider = (element) => element.scrollWidth - element.clientWidth;
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), 0);
  assert.equal(await page.locator("dialog.panel").evaluate(wider), 0);
}

test("who claims the box with a password comes back in with it", async () => {
  const page = await open();
  await page.getByLabel("Claim code").fill(/[0-9A-Z]{4}-[0-9A-Z]{4}/.exec(server.log)[0]);
  await page.getByLabel("Your name").fill("Olga");
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Claim the box" }).click();
  await page.getByRole("button", { name: /start chatting/ }).click();
  await inside(page);
  await page.context().close();

  const again = await open();
  await fill(again, "olga", "wrong password");
  await again.getByRole("button", { name: "Sign in" }).click();
  assert.match(await alert(again).innerText(), /Nobody of this name has this password/);
  await shot(again, "sign-in");
  await fill(again, "olga");
  await again.getByRole("button", { name: "Sign in" }).click();
  await inside(again);
  // A reload keeps who is signed in, and no secret is within reach of a script.
  await again.reload();
  await inside(again);
  assert.equal(await again.evaluate(() => document.cookie + Object.keys(localStorage).join()), "");
  await again.getByRole("button", { name: "Account" }).click();
  await again.getByRole("button", { name: "Sign out" }).first().click();
  await again.getByRole("heading", { name: /^Welcome to/ }).waitFor();
  await again.reload();
  await again.getByRole("heading", { name: /^Welcome to/ }).waitFor();
  await again.context().close();
});

test("the owner sees everybody, invites somebody, and changes what they are", async () => {
  const page = await signIn("olga");
  await account(page, "People");
  const form = page.locator("dialog form");
  await form.getByLabel("Name").fill("Kim");
  await form.getByLabel("Role").selectOption("child");
  await form.getByLabel("Plan").selectOption("starter");
  await page.getByRole("button", { name: "Invite by link" }).click();
  link = await page.locator("dialog pre code").innerText();
  assert.match(link, /#invitation=allerac-invitation-[a-z2-7]{12}-[\w-]{43}$/);
  await page.getByText("invited as child · starter").waitFor();
  await shot(page, "people");
  await page.context().close();
});

test("who is invited comes in once, on a phone", async () => {
  const page = await open(PHONE, link);
  await page.getByRole("heading", { name: "Welcome, Kim" }).waitFor();
  assert.ok(!page.url().includes("invitation"), "the secret does not stay in the history");
  await shot(page, "invited");
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Come in" }).click();
  await inside(page);
  await page.getByRole("button", { name: "Account" }).click();
  await page.getByText("child · starter").waitFor();
  const tabs = await page.getByRole("tab").allInnerTexts();
  assert.deepEqual(tabs, ["Security"]);
  await page.context().close();

  const late = await open({}, link);
  await late.getByRole("heading", { name: "This invitation does not open" }).waitFor();
  await late.context().close();

  const owner = await signIn("olga", PHONE);
  await account(owner, "People");
  await choose(owner, "Plan of Kim", "pro");
  await choose(owner, "Role of Kim", "member");
  await shot(owner, "people-phone");
  await noOverflow(owner);
  const kim = () => JSON.parse(server.cli("users", "list", "--json")).find(({ user }) => user === "Kim");
  assert.deepEqual([kim().role, kim().plan], ["member", "pro"]);
  // The last owner stays, and the page says why.
  await owner.getByLabel("Role of Olga").selectOption("member");
  assert.match(await alert(owner).innerText(), /needs an owner/);
  assert.equal(await owner.getByLabel("Role of Olga").inputValue(), "owner");
  await owner.context().close();
});

test("a person makes, renews and revokes keys of their own", async () => {
  const page = await signIn("kim");
  await account(page, "My keys");
  await page.getByLabel("What for").fill("laptop");
  await page.getByLabel("Opens for").selectOption("30");
  await page.getByRole("button", { name: "Make a key" }).click();
  const secret = page.locator("dialog pre code");
  await secret.waitFor();
  const first = await secret.innerText();
  assert.match(first, /^sk-allerac-[a-z2-7]{12}-[\w-]{43}$/);
  const opens = async (key) => (await fetch(`${server.url}/v1/models`, { headers: { authorization: `Bearer ${key}` } })).status;
  assert.equal(await opens(first), 200);
  await page.getByRole("button", { name: "Renew" }).click();
  await page.waitForFunction((old) => document.querySelector("dialog pre code").innerText !== old, first);
  const second = await secret.innerText();
  assert.deepEqual([await opens(first), await opens(second)], [200, 200]);
  await shot(page, "keys");
  await page.getByRole("button", { name: "Revoke laptop" }).click();
  await page.getByRole("button", { name: "Revoke laptop" }).waitFor({ state: "detached" });
  assert.deepEqual([await opens(first), await opens(second)], [401, 401]);
  await page.context().close();
});

test("a second factor is set up from a picture and asked for at the door", async () => {
  const page = await signIn("kim", PHONE);
  await account(page, "Security");
  await page.getByLabel("Your password").fill(PASSWORD);
  await page.getByRole("button", { name: "Set up" }).click();
  await page.getByRole("img", { name: /Picture/ }).waitFor();
  const secret = await page.locator("dialog pre code").innerText();
  await page.getByRole("img", { name: /Picture/ }).scrollIntoViewIfNeeded();
  await shot(page, "second-factor-phone");
  await noOverflow(page);
  const now = Date.now() / 1000;
  await page.getByLabel("Code").fill(totp(secret, now));
  await page.getByRole("button", { name: "Confirm" }).click();
  await page.getByText("Recovery codes").waitFor();
  const recovery = (await page.locator("dialog pre code").innerText()).split("\n");
  assert.equal(recovery.length, 10);
  await page.context().close();

  const door = await open();
  await fill(door, "kim");
  await door.getByRole("button", { name: "Sign in" }).click();
  await door.getByLabel("Code").fill("000000");
  await door.getByRole("button", { name: "Sign in" }).click();
  assert.match(await alert(door).innerText(), /does not open/);
  await door.getByLabel("Code").fill(recovery[0]);
  await door.getByRole("button", { name: "Sign in" }).click();
  await inside(door);
  await account(door, "Security");
  await door.getByRole("button", { name: "Sign out there" }).first().click();
  await shot(door, "security");
  await door.context().close();
});

test("nothing left the box and nothing broke the policy", () => {
  assert.deepEqual(offences, []);
});
