import { expect, test } from "vitest";

import { explain } from "./problem";

const detail = (code: string, message = "something") => ({ code, message });

test("a refused key leads to another key", () => {
  expect(explain(401, detail("invalid_api_key"), null).remedy).toBe("key");
});

test("a spent quota says when it renews", () => {
  const now = new Date("2026-11-21T12:00:00");
  const problem = explain(429, detail("insufficient_quota"), 10 * 24 * 3600, now);
  expect(problem.advice).toBe("They renew on 1 December. The owner of the box can give you a larger plan.");
  expect(explain(429, detail("insufficient_quota"), null, now).advice).not.toMatch(/renew/);
});

test("too many tries say how long to wait", () => {
  expect(explain(429, detail("too_many_tries"), 42).advice).toBe("Wait 42 seconds, then try again.");
  expect(explain(429, null, 600).advice).toBe("Wait 10 minutes, then try again.");
});

test("a box that loads or is busy asks for patience", () => {
  expect(explain(503, detail("engine_unavailable"), 5).title).toBe("The model is still loading.");
  expect(explain(503, detail("engine_overloaded"), 5).title).toBe("The box is busy with other answers.");
  expect(explain(503, null, null)).toEqual({
    title: "The box is not ready.",
    advice: "Try again in a moment.",
    remedy: "retry",
  });
});

test("an unknown refusal is told in the box's own words", () => {
  expect(explain(400, detail("invalid_value", "`owner` is empty"), null)).toEqual({
    title: "`owner` is empty.",
    advice: "",
    remedy: "none",
  });
  expect(explain(500, null, null).title).toBe("The box answered with an error (500).");
});
