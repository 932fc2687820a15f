import { expect, test } from "vitest";

import { fate, type Gpu, share } from "./gpu";

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
  const told = (status: Gpu["status"], reason: string | null = null) => fate({ status, reason, devices: [card] });
  expect(told("ready")).toBe("a card is used");
  expect(told("failed", "lost")).toBe("The graphics processor failed, and is tried again later: lost");
  expect([told("absent"), told("no_module"), told("off"), told("looking")]).toEqual([null, null, null, null]);
});
