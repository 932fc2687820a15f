import { expect, test } from "vitest";

import { type Gpu, share, size, speed, standing, words } from "./models";

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

test("how much of a model a graphics processor has", () => {
  const of = (layers: number, cpu_expert_layers: number) => share({ layers, layers_max: 49, cpu_expert_layers, bytes: 1 });
  expect([of(49, 0), of(49, 30), of(12, 0)]).toEqual([
    "on the graphics processor",
    "on the graphics processor but for the experts of 30 layers",
    "12 of 49 layers on the graphics processor",
  ]);
});

test("what becomes of the graphics processor, where there is one", () => {
  const card = { name: "Vulkan0", description: "a card", is_used: true, is_integrated: false, memory_bytes: 1, free_bytes: 1 };
  const told = (status: Gpu["status"], reason: string | null = null) => standing({ status, reason, devices: [card] });
  expect(told("ready")).toBe("a card is used");
  expect(told("failed", "lost")).toBe("The graphics processor failed, and is tried again later: lost");
  expect([told("absent"), told("no_module"), told("off"), told("looking")]).toEqual([null, null, null, null]);
});
