import { expect, test } from "vitest";
import { decode, encode, hindrance, thisDevice } from "./passkeys";

test("bytes are the same after base64url", () => {
  const bytes = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  for (const length of [0, 1, 2, 3, 4, 255, 256]) {
    const text = encode(bytes.slice(0, length).buffer);
    expect(text).toMatch(/^[\w-]*$/);
    expect([...decode(text)]).toEqual([...bytes.slice(0, length)]);
  }
  expect(encode(Uint8Array.from([251, 255]).buffer)).toBe("-_8");
});

test("the page says why there are no passkeys", () => {
  const page = (hostname: string) => ({ hostname }) as Location;
  expect(hindrance(page("192.168.1.5"), true)).toMatch(/by the box's name/);
  expect(hindrance(page("[::1]"), true)).toMatch(/by the box's name/);
  expect(hindrance(page("allerac.local"), false)).toMatch(/open https:\/\/allerac\.local/);
  expect(hindrance(page("allerac.local"), true)).toMatch(/browser knows no passkeys/);
});

test("a passkey is called after what it is made on", () => {
  expect(thisDevice("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X)")).toBe("iPhone");
  expect(thisDevice("Mozilla/5.0 (Linux; Android 15)")).toBe("Android");
  expect(thisDevice("other")).toBe("This device");
});
