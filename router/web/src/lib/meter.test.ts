import { expect, test } from "vitest";

import { Meter, place, words } from "./meter";

test("speed counts the tokens after the first over the time after the first", () => {
  const meter = new Meter(1000);
  meter.servedBy = "local";
  for (const at of [1400, 1500, 1900]) meter.text(at);
  const measure = meter.measure(11);
  expect(measure).toEqual({ servedBy: "local", firstMs: 400, tokens: 11, tokensPerSecond: 20 });
  expect(measure && words(measure)).toEqual(["on this box", "20.0 tokens/s", "first word after 0.4 s", "11 tokens"]);
});

test("nothing is claimed that was not measured", () => {
  const meter = new Meter(0);
  expect(meter.measure(null)).toBeNull();
  meter.text(50);
  expect(meter.measure(1)?.tokensPerSecond).toBeNull();
  const stopped = meter.measure(null);
  expect(stopped && words(stopped)).toEqual(["first word after 0.1 s"]);
});

test("another server is named", () => {
  expect(place("upstream:office-gpu")).toBe("on office-gpu");
});
