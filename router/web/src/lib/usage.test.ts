import { expect, test } from "vitest";
import { totals, unmeasured } from "./usage";

const row = (user: string, model: string, requests: number, tokens: number) => ({
  user,
  model,
  requests,
  prompt_tokens: tokens,
  cached_tokens: 1,
  completion_tokens: 10,
  energy_kwh: 0.5,
  cpu_seconds: 2,
  cost: 0.25,
});

test("what was used is summed by a name, the largest first", () => {
  const used = [row("anna", "small", 1, 20), row("ben", "small", 2, 90), row("anna", "large", 3, 40)];
  expect(totals(used, ({ user }) => user)).toEqual([
    { name: "ben", requests: 2, prompt_tokens: 90, cached_tokens: 1, completion_tokens: 10, energy_kwh: 0.5, cpu_seconds: 2, cost: 0.25, share: 100 / 180 },
    { name: "anna", requests: 4, prompt_tokens: 60, cached_tokens: 2, completion_tokens: 20, energy_kwh: 1, cpu_seconds: 4, cost: 0.5, share: 80 / 180 },
  ]);
  expect(totals(used, ({ model }) => model).map(({ name }) => name)).toEqual(["small", "large"]);
  expect(totals([], ({ user }) => user)).toEqual([]);
});

test("where no energy is measured it is said why", () => {
  const energy = { counters: [] as string[], unreadable: [] as string[], own_kwh: 0, own_cost: 0 };
  const used = [{ ...row("anna", "small", 1, 20), energy_kwh: 0 }];
  expect(unmeasured({ used, energy })).toBe("This machine has no counter of energy that is known here");
  expect(unmeasured({ used, energy: { ...energy, unreadable: ["/sys/x"] } })).toBe("The server may not read /sys/x");
  expect(unmeasured({ used, energy: { ...energy, counters: ["package-0"] } })).toBe("No energy was measured in this month");
  expect(unmeasured({ used, energy: { ...energy, own_kwh: 0.1 } })).toBe(null);
});
