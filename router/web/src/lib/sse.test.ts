import { expect, test } from "vitest";

import { EventParser } from "./sse";

test("events end at empty lines and comments are ignored", () => {
  const parser = new EventParser();
  expect(parser.push(": waiting\n\ndata: a\n\ndata: b\r\ndata:c\r\n\r\ndata: unfin")).toEqual(["a", "b\nc"]);
  expect(parser.push("ished\n\n")).toEqual(["unfinished"]);
});

test("any split gives the same events", () => {
  const text = "data: one\n\n: x\n\ndata: two\ndata: three\n\n";
  for (let cut = 0; cut <= text.length; cut++) {
    const parser = new EventParser();
    const events = [...parser.push(text.slice(0, cut)), ...parser.push(text.slice(cut))];
    expect(events).toEqual(["one", "two\nthree"]);
  }
});
