// Passkeys: between the box, which speaks base64url, and the browser, which speaks bytes. Browsers that do this by
// themselves (`parseRequestOptionsFromJSON`, `toJSON`) are younger than those that have passkeys.

import { ApiError, json, post, request } from "./api";
import type { Passkey, People } from "./people";

interface Descriptor {
  type: "public-key";
  id: string;
}

interface AskJson {
  challenge: string;
  rpId: string;
  userVerification: UserVerificationRequirement;
  timeout: number;
}

export interface MakeJson {
  challenge: string;
  rp: { id: string; name: string };
  user: { id: string; name: string; displayName: string };
  pubKeyCredParams: { type: "public-key"; alg: number }[];
  excludeCredentials: Descriptor[];
  authenticatorSelection: AuthenticatorSelectionCriteria;
  attestation: "none";
  timeout: number;
}

const ADDRESS = /^(\d+\.\d+\.\d+\.\d+|\[.*\])$/;

/** Why there can be no passkeys on this page; nothing where there can. */
export function hindrance(page: Location = location, secure = isSecureContext): string | null {
  if (ADDRESS.test(page.hostname)) {
    return "Passkeys are bound to a name: open this page by the box's name over HTTPS, and not by its address.";
  }
  if (!secure) return `Passkeys need HTTPS: open https://${page.hostname} instead, once this device trusts the box.`;
  return "PublicKeyCredential" in globalThis ? null : "This browser knows no passkeys.";
}

export function encode(bytes: ArrayBuffer): string {
  const text = String.fromCharCode(...new Uint8Array(bytes));
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

export function decode(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
}

/** What a person does not finish, or what their device refuses, in words. */
async function asked<T>(question: Promise<Credential | null>): Promise<T> {
  const stopped = (title: string, advice: string) => new ApiError(0, { title, advice, remedy: "none" });
  try {
    return (await question) as T;
  } catch (error) {
    const name = error instanceof DOMException ? error.name : "";
    if (name === "InvalidStateError") throw stopped("This device has a passkey of yours already.", "");
    if (name === "SecurityError") {
      throw stopped("The browser has no passkeys for this address.", "Open this page by the box's name over HTTPS.");
    }
    throw stopped("No passkey was used.", "Try again and confirm on your device, or come in another way.");
  }
}

export async function signInWithPasskey() {
  const ask = await json<AskJson>(await request("/auth/passkey/options", { method: "POST" }));
  const publicKey = { ...ask, challenge: decode(ask.challenge) };
  const { id, response } = await asked<PublicKeyCredential & { response: AuthenticatorAssertionResponse }>(
    navigator.credentials.get({ publicKey }),
  );
  const answer = {
    clientDataJSON: encode(response.clientDataJSON),
    authenticatorData: encode(response.authenticatorData),
    signature: encode(response.signature),
    userHandle: response.userHandle ? encode(response.userHandle) : "",
  };
  await request("/auth/passkey", post(null, { id, response: answer }));
}

export async function addPasskey(calls: People, name: string, password: string | null): Promise<Passkey> {
  const make = await calls.beginPasskey(password);
  const publicKey = {
    ...make,
    challenge: decode(make.challenge),
    user: { ...make.user, id: decode(make.user.id) },
    excludeCredentials: make.excludeCredentials.map(({ type, id }) => ({ type, id: decode(id) })),
  };
  const { response } = await asked<PublicKeyCredential & { response: AuthenticatorAttestationResponse }>(
    navigator.credentials.create({ publicKey }),
  );
  const made = {
    clientDataJSON: encode(response.clientDataJSON),
    attestationObject: encode(response.attestationObject),
  };
  return calls.keepPasskey(name, { response: made });
}

/** What to call a passkey that is made in this browser. */
export function thisDevice(agent: string = navigator.userAgent): string {
  const known = [/iPhone/, /iPad/, /Android/, /Windows/, /Mac/, /CrOS/, /Linux/];
  const names = ["iPhone", "iPad", "Android", "Windows", "Mac", "Chromebook", "Linux"];
  return names[known.findIndex((pattern) => pattern.test(agent))] ?? "This device";
}
