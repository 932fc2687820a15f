// Passkeys, in a real browser with an authenticator of its own, against the real server.

import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { test } from "node:test";

import { browser, offences, open, server, setup, shot } from "./browser.js";
import { totp } from "./totp.js";

const PASSWORD = "correct horse battery";
const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, colorScheme: "dark" };
const DEVICE = {
  protocol: "ctap2",
  transport: "internal",
  hasResidentKey: true,
  hasUserVerification: true,
  isUserVerified: true,
  automaticPresenceSimulation: true,
};

/** The box by its name: passkeys are bound to one. */
let home;
/** The owner's passkey, as the device has it. */
let credential;

setup.ready = () => (home = server.url.replace("127.0.0.1", "localhost"));

const alert = (page) => page.getByRole("alert");
const inside = (page) => page.getByRole("heading", { name: "Ask your box" }).waitFor();
const audit = () => JSON.parse(server.cli("audit", "list", "--json"));
const withPasskey = (page) => page.getByRole("button", { name: "Sign in with a passkey" }).click();

/** A page in a browser whose device has these passkeys. */
async function device(credentials = [], options = {}, address = home) {
  const page = await open(options, address);
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("WebAuthn.enable");
  const { authenticatorId } = await cdp.send("WebAuthn.addVirtualAuthenticator", { options: DEVICE });
  for (const one of credentials) await cdp.send("WebAuthn.addCredential", { authenticatorId, credential: one });
  const all = async () => (await cdp.send("WebAuthn.getCredentials", { authenticatorId })).credentials;
  return { page, all, send: (method, more) => cdp.send(method, { authenticatorId, ...more }) };
}

async function signIn(page, name) {
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await inside(page);
}

async function security(page) {
  await page.getByRole("button", { name: "Account" }).click();
  await page.getByRole("tab", { name: "Security" }).click();
}

async function add(page, name) {
  await page.getByLabel("What to call it").fill(name);
  await page.getByLabel("Password to confirm").fill(PASSWORD);
  await page.getByRole("button", { name: "Add a passkey" }).click();
}

/** The box's own word for why. */
async function refusal(path, body, headers = {}) {
  const answer = await fetch(`${home}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", origin: home, ...headers },
    body: JSON.stringify(body),
  });
  return [answer.status, (await answer.json()).error?.code];
}

test("a passkey is added with the password, and signs in without it", async () => {
  const { page, all } = await device();
  await page.getByLabel("Claim code").fill(/[0-9A-Z]{4}-[0-9A-Z]{4}/.exec(server.log)[0]);
  await page.getByLabel("Your name").fill("Olga");
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Claim the box" }).click();
  await page.getByRole("button", { name: /start chatting/ }).click();
  await security(page);
  await page.getByLabel("What to call it").fill("phone");
  await page.getByLabel("Password to confirm").fill("wrong password");
  await page.getByRole("button", { name: "Add a passkey" }).click();
  assert.match(await alert(page).innerText(), /not your password/);
  assert.equal((await all()).length, 0);
  await add(page, "phone");
  await page.getByText("phone signs you in from now on").waitFor();
  [credential] = await all();
  assert.deepEqual([credential.rpId, credential.isResidentCredential], ["localhost", true]);
  assert.ok(!Buffer.from(credential.userHandle, "base64").toString("latin1").includes("Olga"));
  await shot(page, "passkeys");
  // A device does not have two for one person.
  await add(page, "again");
  assert.match(await alert(page).innerText(), /has a passkey of yours already/);

  await page.getByRole("button", { name: "Sign out", exact: true }).click();
  await withPasskey(page);
  await inside(page);
  await security(page);
  await page.getByText(/^for localhost · used \d/).waitFor();
  [credential] = await all();
  await page.context().close();
  const opened = audit().find(({ action }) => action === "session.open");
  assert.deepEqual([opened.actor, opened.detail.by], ["Olga", "passkey"]);
});

test("a link sets a password once, and no code is asked for beside a passkey", async () => {
  server.cli("users", "add", "anna");
  const { page, all } = await device();
  const link = server.cli("users", "reset", "anna", "--url", home).trim().split("\n").at(-1);
  assert.match(link, /#password=allerac-password-[a-z2-7]{12}-[\w-]{43}$/);
  // Another page, because a browser does not load one anew for what stands after the `#`.
  await page.goto("about:blank");
  await page.goto(link);
  await page.getByRole("heading", { name: "Hello, anna" }).waitFor();
  assert.ok(!page.url().includes("password"), "the secret does not stay in the history");
  await shot(page, "set-password");
  await page.getByLabel("New password").fill(PASSWORD);
  await page.getByRole("button", { name: "Set password" }).click();
  await inside(page);
  await security(page);
  await add(page, "key");
  await page.getByText("key signs you in from now on").waitFor();
  await page.getByLabel("Your password").fill(PASSWORD);
  await page.getByRole("button", { name: "Set up" }).click();
  await page.getByLabel("Code").fill(totp(await page.locator("dialog pre code").innerText(), Date.now() / 1000));
  await page.getByRole("button", { name: "Confirm" }).click();
  await page.getByText("Recovery codes").waitFor();
  await page.getByRole("button", { name: "Sign out", exact: true }).click();
  await withPasskey(page);
  await inside(page);
  assert.equal((await all()).length, 1);
  // A link stands for no second factor.
  const second = server.cli("users", "reset", "anna", "--url", home).trim().split("\n").at(-1);
  const asked = await open({}, second);
  await asked.getByLabel("New password").fill(PASSWORD);
  await asked.getByRole("button", { name: "Set password" }).click();
  await asked.getByText("Sign in with it and your second factor").waitFor();
  await asked.context().close();
  server.cli("users", "password", "anna", "--remove-second-factor", { input: PASSWORD });
  await page.context().close();

  const late = await open({}, link);
  await late.getByRole("heading", { name: "This link does not open" }).waitFor();
  await late.context().close();
});

test("what a browser sent once opens nothing a second time, nor from elsewhere", async () => {
  const { page } = await device([credential]);
  const sent = page.waitForRequest((request) => request.url().endsWith("/auth/passkey"));
  await withPasskey(page);
  await inside(page);
  const body = JSON.parse((await sent).postData());
  await page.context().close();

  assert.deepEqual(await refusal("/auth/passkey", body), [401, "passkey_late"]);
  assert.deepEqual(await refusal("/auth/passkey", body, { origin: "http://evil.example" }), [403, "foreign_origin"]);
  const forged = { ...body, response: { ...body.response, clientDataJSON: Buffer.from("{}").toString("base64url") } };
  assert.deepEqual(await refusal("/auth/passkey", forged), [401, "passkey_refused"]);
  for (const [broken, why] of [
    [{ ...body, id: "a+b" }, "invalid_value"],
    [{ id: body.id }, "invalid_body"],
    [[], "invalid_body"],
  ]) {
    const [status, code] = await refusal("/auth/passkey", broken);
    assert.deepEqual([status, code], [400, why]);
  }
  // Keys of people make no passkeys, whatever they open.
  const key = server.createKey("Olga");
  const headers = { authorization: `Bearer ${key}` };
  assert.deepEqual(await refusal("/v1/account/passkeys/options", { password: PASSWORD }, headers), [403, "no_session"]);
});

test("a device that counts backwards is refused, and the audit log has it", async () => {
  assert.ok(credential.signCount > 0);
  const { page } = await device([{ ...credential, signCount: 0 }]);
  await withPasskey(page);
  assert.match(await alert(page).innerText(), /may have been copied/);
  await page.context().close();
  const [noted] = audit().filter(({ action }) => action === "passkey.copied");
  assert.deepEqual([noted.subject, noted.detail.counter], ["Olga", 1]);
});

test("a passkey of another box, or one of nobody, opens nothing", async () => {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const own = privateKey.export({ type: "pkcs8", format: "der" }).toString("base64");
  const unknown = { ...credential, credentialId: Buffer.from("0123456789abcdef").toString("base64") };
  const foreignKey = { ...credential, privateKey: own, signCount: 1000 };
  const foreignPerson = { ...credential, userHandle: Buffer.from("somebody else").toString("base64"), signCount: 1000 };
  for (const [wrong, why] of [
    [unknown, /Nobody here has this passkey/],
    [foreignKey, /This passkey does not open/],
    [foreignPerson, /Nobody here has this passkey/],
  ]) {
    const { page } = await device([wrong]);
    await withPasskey(page);
    assert.match(await alert(page).innerText(), why);
    await page.context().close();
  }
});

test("without a finger or a PIN nothing opens, and the page says so", async () => {
  const { page, send } = await device([{ ...credential, signCount: 1000 }], PHONE);
  await send("WebAuthn.setUserVerified", { isUserVerified: false });
  await withPasskey(page);
  assert.match(await alert(page).innerText(), /No passkey was used/);
  await shot(page, "passkey-phone");
  await page.context().close();
});

test("where a page can have no passkeys, it says why", async () => {
  const page = await open();
  assert.equal(await page.getByRole("button", { name: "Sign in with a passkey" }).count(), 0);
  await signIn(page, "olga");
  await security(page);
  await page.getByText(/open this page by the box's name over HTTPS/).waitFor();
  const answer = await page.evaluate(async () => {
    const answer = await fetch("/auth/passkey/options", { method: "POST" });
    return [answer.status, (await answer.json()).error.code];
  });
  assert.deepEqual(answer, [403, "no_passkeys_here"]);
  await page.context().close();
});

test("a passkey opens no more when it is removed, or its person", async () => {
  const first = await device([{ ...credential, signCount: 2000 }]);
  await withPasskey(first.page);
  await inside(first.page);
  const [used] = await first.all();
  await security(first.page);
  await first.page.getByRole("button", { name: "Remove passkey phone" }).click();
  await first.page.getByRole("button", { name: "Remove passkey phone" }).waitFor({ state: "detached" });
  await first.page.context().close();
  const again = await device([used]);
  await withPasskey(again.page);
  assert.match(await alert(again.page).innerText(), /Nobody here has this passkey/);
  await signIn(again.page, "anna");
  await security(again.page);
  await again.page.getByRole("button", { name: "Remove passkey key" }).waitFor();
  await add(again.page, "second");
  await again.page.getByText("second signs you in from now on").waitFor();
  await again.page.getByRole("button", { name: "Sign out", exact: true }).click();
  const hers = (await again.all()).filter(({ userHandle }) => userHandle !== used.userHandle);
  await again.page.context().close();
  assert.equal(hers.length, 1);
  server.cli("users", "remove", "anna");
  const gone = await device(hers);
  await withPasskey(gone.page);
  assert.match(await alert(gone.page).innerText(), /Nobody here has this passkey/);
  await gone.page.context().close();
});

test("nothing left the box and nothing broke the policy", () => {
  assert.ok(browser.isConnected());
  assert.deepEqual(offences, []);
});
