// Signing in with another provider: a real browser, the real server, and a real provider that is told to do wrong.

import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { Server } from "../js/allerac.js";
import { offences, open, server, setup, shot } from "./browser.js";
import { Identities } from "./provider.js";

const PASSWORD = "correct horse battery";

let provider;
let configuration;

setup.prepare = async () => {
  provider = await Identities.start();
  const secret = join(mkdtempSync(join(tmpdir(), "allerac-sso-")), "secret");
  writeFileSync(secret, `${provider.secret}\n`);
  configuration = `[oidc]
name = "Work"
issuer = "${provider.issuer}"
client_id = "box"
client_secret_file = "${secret}"
domains = ["example.com"]
groups = ["ai", "lab"]
`;
  return configuration;
};

setup.ready = () => provider.serve(server.url);
after(() => provider.stop());

const alert = (page) => page.getByRole("alert");
const inside = (page) => page.getByRole("heading", { name: "Ask your box" }).waitFor();
const visit = (address = server.url) => open({}, address, [provider.issuer]);
const withWork = (page) => page.getByRole("button", { name: "Sign in with Work" }).click();

async function leave(page) {
  if (!(await page.locator("dialog.panel").isVisible())) await page.getByRole("button", { name: "Account" }).click();
  await page.getByRole("button", { name: "Sign out", exact: true }).click();
  await page.getByRole("heading", { name: /^Welcome to/ }).waitFor();
}

/** At the provider's own page. */
async function thereAs(page, name) {
  await page.locator("[name=login]").fill(name);
  await page.locator("[name=password]").fill("any");
  await page.locator("[type=submit]").click();
  await page.getByRole("button", { name: "Continue" }).click();
}

async function security(page) {
  await page.getByRole("button", { name: "Account" }).click();
  await page.getByRole("tab", { name: "Security" }).click();
}

const people = () => JSON.parse(server.cli("users", "list", "--json"));

test("whom nobody invited is told so, and nobody is made", async () => {
  await server.claim("Olga");
  const page = await visit();
  await shot(page, "sign-in-sso");
  await withWork(page);
  await thereAs(page, "anna");
  assert.match(await alert(page).innerText(), /Nobody here is linked with you there/);
  assert.ok(!page.url().includes("#"), "the reason does not stay in the address");
  await page.context().close();
  assert.deepEqual(people().map(({ user }) => user), ["Olga"]);
});

test("who is invited comes in by the provider, without a password", async () => {
  const link = server.cli("invitations", "create", "--name", "Anna", "--role", "child", "--plan", "starter", "--url", server.url);
  const page = await visit(link.trim());
  await page.getByRole("button", { name: "Come in with Work instead" }).click();
  await thereAs(page, "anna");
  await inside(page);
  const cookies = await page.context().cookies(server.url);
  assert.deepEqual(cookies.map(({ name, sameSite, httpOnly }) => [name, sameSite, httpOnly]), [["allerac_session", "Strict", true]]);
  await leave(page);
  // The provider knows the browser by now, and asks nothing.
  await withWork(page);
  await inside(page);
  await security(page);
  await page.getByText("anna@example.com").waitFor();
  await page.getByRole("button", { name: "Link with Work" }).waitFor();
  await shot(page, "single-sign-on");
  await page.context().close();
  const anna = people().find(({ user }) => user === "Anna");
  assert.deepEqual([anna.role, anna.plan, anna.password, anna.identities], ["child", "starter", false, 1]);
  const opened = JSON.parse(server.cli("audit", "list", "--json")).find(({ action }) => action === "session.open");
  assert.deepEqual([opened.actor, opened.detail.by], ["Anna", "single sign-on"]);
});

/** Whoever has a password shows that they know it. */
async function linkWithWork(page) {
  const form = page.locator("form").filter({ has: page.getByRole("button", { name: "Link with Work" }) });
  await form.getByLabel("Password to confirm").fill(PASSWORD);
  await form.getByRole("button").click();
}

test("who is here links the provider, and unlinks it", async () => {
  server.cli("users", "password", "Olga", { input: PASSWORD });
  const page = await visit();
  await page.getByLabel("Name").fill("olga");
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await inside(page);
  await security(page);
  await linkWithWork(page);
  await thereAs(page, "olga");
  await page.getByText("olga@example.com").waitFor();
  await leave(page);
  await withWork(page);
  await inside(page);
  await security(page);
  await page.getByRole("button", { name: "Unlink olga@example.com" }).click();
  await page.getByRole("button", { name: "Unlink olga@example.com" }).waitFor({ state: "detached" });
  await leave(page);
  await withWork(page);
  assert.match(await alert(page).innerText(), /Nobody here is linked with you there/);
  await page.context().close();

  // What is Anna's there does not become somebody else's here.
  const other = await visit();
  await other.getByLabel("Name").fill("olga");
  await other.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await other.getByRole("button", { name: "Sign in", exact: true }).click();
  await inside(other);
  await security(other);
  await linkWithWork(other);
  await thereAs(other, "anna");
  assert.match(await alert(other).innerText(), /somebody else's here already/);
  await other.context().close();
});

test("who is of no domain or group that may come does not", async () => {
  for (const name of ["eve", "mallory", "nobody"]) {
    const page = await visit();
    await withWork(page);
    await thereAs(page, name);
    assert.match(await alert(page).innerText(), /may not come to this box/, name);
    await page.context().close();
  }
});

test("what another browser began, or what was used, leads nowhere", async () => {
  const page = await visit();
  let back;
  page.on("request", (request) => {
    if (request.url().includes("/auth/sso/callback")) back = request.url();
  });
  // The provider fails at the last step, so that the code in the address is still good.
  provider.answer = (request, response) => request.url === "/token" && (response.destroy() ?? true);
  await withWork(page);
  await thereAs(page, "anna");
  assert.match(await alert(page).innerText(), /other side cannot be reached/);
  provider.answer = null;
  assert.match(back, /callback\?code=[^&]+&state=/);
  const other = await visit(back);
  assert.match(await alert(other).innerText(), /began in another browser/);
  // Nor where that browser began something of its own.
  await other.evaluate(() => fetch("/auth/sso", { method: "POST", body: "{}" }));
  await other.goto(back);
  assert.match(await alert(other).innerText(), /began in another browser/);
  await other.context().close();
  await page.goto(server.url);
  await withWork(page);
  await inside(page);
  await leave(page);
  await page.goto(back);
  assert.match(await alert(page).innerText(), /began in another browser/);
  for (const wrong of ["", "?state=x", "?code=a&state=b", "?code=a&code=b", "?error=access_denied"]) {
    await page.goto(`${server.url}/auth/sso/callback${wrong}`);
    assert.match(await alert(page).innerText(), /began in another browser/, wrong);
  }
  await page.context().close();
});

test("a token that does not hold opens nothing", async () => {
  const page = await visit();
  await withWork(page);
  await thereAs(page, "anna");
  await inside(page);
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const foreign = privateKey.export({ format: "jwk" });
  const now = Math.floor(Date.now() / 1000);
  const claims = (changed) => (token) => provider.signed(token, changed);
  const faults = {
    "another issuer": claims({ iss: "https://other.example" }),
    "another audience": claims({ aud: "other" }),
    "given to another": claims({ aud: ["box", "other"], azp: "other" }),
    "another nonce": claims({ nonce: "other" }),
    "no nonce": claims({ nonce: undefined }),
    expired: claims({ iat: now - 400, exp: now - 100 }),
    "of tomorrow": claims({ iat: now + 86_400, exp: now + 90_000 }),
    "no subject": claims({ sub: "" }),
    "not signed": (token) => provider.signed(token, {}, { header: { alg: "none" } }),
    "signed by what both know": (token) => provider.signed(token, {}, { header: { alg: "HS256" }, secret: provider.secret }),
    "an unknown key": (token) => provider.signed(token, {}, { header: { kid: "unknown" }, key: foreign }),
    "the known key's name": (token) => provider.signed(token, {}, { key: foreign }),
    "no token": () => "x.y.z",
  };
  await leave(page);
  for (const [fault, forge] of Object.entries(faults)) {
    await page.goto(server.url);
    provider.forge = forge;
    await withWork(page);
    assert.match(await alert(page).innerText(), /does not hold/, fault);
  }
  // The same, signed as it should be, opens: it was the faults that did not.
  provider.forge = claims({});
  await page.goto(server.url);
  await withWork(page);
  await inside(page);
  provider.forge = null;
  await page.context().close();
});

test("keys may change at any time, and be of any kind", async () => {
  for (const algorithm of ["ES256", "EdDSA"]) {
    const fresh = await Server.start(configuration);
    await fresh.claim("Olga");
    const link = fresh.cli("invitations", "create", "--name", "Anna", "--url", fresh.url).trim();
    provider.serve(fresh.url);
    const page = await visit(link);
    await page.getByRole("button", { name: "Come in with Work instead" }).click();
    await thereAs(page, "anna");
    await inside(page);
    await leave(page);
    provider.serve(fresh.url, algorithm);
    await withWork(page);
    // It has forgotten the browser, too.
    await thereAs(page, "anna");
    await inside(page);
    await page.context().close();
    await fresh.stop();
  }
  provider.serve(server.url);
});

test("a provider that is down, or not who it says, is told of", async () => {
  const cases = [
    (_, response) => response.destroy() ?? true,
    (_, response) => response.writeHead(500).end("broken") && true,
    (_, response) => response.end("x".repeat(300_000)) && true,
    (_, response) => response.end(JSON.stringify({ issuer: "https://other.example" })) && true,
    (_, response) => response.writeHead(302, { location: server.url }).end() && true,
  ];
  for (const answer of cases) {
    const fresh = await Server.start(configuration);
    await fresh.claim("Olga");
    provider.answer = answer;
    const page = await visit(fresh.url);
    await withWork(page);
    assert.match(await alert(page).innerText(), /other side cannot be reached/);
    await page.context().close();
    await fresh.stop();
  }
  provider.answer = null;
});

test("who was removed is not taken for somebody new", async () => {
  const fresh = await Server.start(`${configuration}new_people = { role = "child", plan = "starter" }\n`);
  await fresh.claim("Olga");
  provider.serve(fresh.url);
  const page = await visit(fresh.url);
  await withWork(page);
  await thereAs(page, "ben");
  await inside(page);
  const all = () => JSON.parse(fresh.cli("users", "list", "--json")).map(({ user, role, plan }) => [user, role, plan]);
  assert.deepEqual(all().find(([user]) => user === "ben"), ["ben", "child", "starter"]);
  fresh.cli("users", "remove", "ben");
  await page.goto(fresh.url);
  await withWork(page);
  assert.match(await alert(page).innerText(), /You were removed/);
  await page.context().close();

  // A name that somebody has here is another person's there.
  const namesake = await visit(fresh.url);
  await withWork(namesake);
  await thereAs(namesake, "olga");
  await inside(namesake);
  await namesake.context().close();
  assert.deepEqual(all().map(([user, role]) => [user, role]), [["Olga", "owner"], ["olga@example.com", "child"]]);
  await fresh.stop();
});

test("nothing left the box but for the provider, and nothing broke the policy", () => {
  assert.deepEqual(offences, []);
});
