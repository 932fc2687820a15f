import { expect, test } from "vitest";
import { totals } from "./usage";

const row = (user: string, model: string, requests: number, tokens: number) => ({
  user,
  model,
  requests,
  prompt_tokens: tokens,
  cached_tokens: 1,
  completion_tokens: 10,
});

test("what was used is summed by a name, the largest first", () => {
  const used = [row("anna", "small", 1, 20), row("ben", "small", 2, 90), row("anna", "large", 3, 40)];
  expect(totals(used, ({ user }) => user)).toEqual([
    { name: "ben", requests: 2, prompt_tokens: 90, cached_tokens: 1, completion_tokens: 10, share: 100 / 180 },
    { name: "anna", requests: 4, prompt_tokens: 60, cached_tokens: 2, completion_tokens: 20, share: 80 / 180 },
  ]);
  expect(totals(used, ({ model }) => model).map(({ name }) => name)).toEqual(["small", "large"]);
  expect(totals([], ({ user }) => user)).toEqual([]);
});
