import { expect, test } from "vitest";

import { type Download, isRunning, size, speed, standing, words } from "./models";

test("sizes have three digits at most", () => {
  expect([0, 999, 98_362_432, 4_683_073_184, 42_520_395_584, 123_456_789].map(size)).toEqual([
    "0 bytes",
    "999 bytes",
    "98.4 MB",
    "4.7 GB",
    "42.5 GB",
    "123 MB",
  ]);
});

test("speeds have as many digits as mean something", () => {
  expect([0, 0.1, 4.26, 12.4].map(speed)).toEqual([
    "less than 0.1 tokens/s",
    "about 0.1 tokens/s",
    "about 4.3 tokens/s",
    "about 12 tokens/s",
  ]);
});

test("a download is told by how much of it is there and how long it takes", () => {
  expect(words({ status: "pulling 0123", total: 4_000_000_000, completed: 1_019_000_000, eta_seconds: 601 })).toBe(
    "25 % of 4.0 GB, 10 min left",
  );
  expect(words({ status: "pulling 0123", total: 1000, completed: 0 })).toBe("0 % of 1.0 kB");
  expect(words({ status: "pulling 0123", total: 10, completed: 1, eta_seconds: 9000 })).toBe("10 % of 10 bytes, 2.5 h left");
  expect(words({ status: "verifying sha256 digest" })).toBe("checking what came");
  expect(words({ status: "pulling manifest" })).toBe("pulling manifest");
});

test("a download that somebody else ordered is told in the same words", () => {
  const download = (one: Partial<Download>): Download => ({
    id: "m", status: "fetching", total: null, completed: null, eta_seconds: null, starts_in_seconds: null, error: null, ...one,
  });
  const all = [
    download({ total: 4_000_000_000, completed: 1_019_000_000, eta_seconds: 601 }),
    download({ total: 1000, completed: 0 }),
    download({ status: "waiting" }),
    download({ status: "waiting", starts_in_seconds: 5400 }),
    download({ status: "verifying" }),
    download({ status: "cancelled" }),
  ];
  expect(all.map(standing)).toEqual([
    "25 % of 4.0 GB, 10 min left",
    "0 % of 1.0 kB",
    "waits",
    "waits 1.5 h for the hours of downloads",
    "checking what came",
    "cancelled",
  ]);
  expect(all.map(isRunning)).toEqual([true, true, true, true, true, false]);
});
