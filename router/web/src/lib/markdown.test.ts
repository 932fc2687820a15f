import { expect, test } from "vitest";

import { blocks, spans } from "./markdown";

const text = (content: string) => [{ kind: "text", text: content }];

test("fences separate code from text", () => {
  expect(blocks("Hi\n```py\nx = 1\n\ny = 2\n```\nbye")).toEqual([
    { kind: "paragraph", spans: text("Hi") },
    { kind: "code", language: "py", text: "x = 1\n\ny = 2" },
    { kind: "paragraph", spans: text("bye") },
  ]);
});

test("a fence still open is code already", () => {
  expect(blocks("```\n<script>")).toEqual([{ kind: "code", language: "", text: "<script>" }]);
});

test("HTML stays text", () => {
  expect(blocks("<img src=x onerror=alert(1)>")).toEqual([
    { kind: "paragraph", spans: text("<img src=x onerror=alert(1)>") },
  ]);
});

test("lists keep their numbers, their long items, and go on after empty lines", () => {
  expect(blocks("To do:\n1. one\n   more\n\n2. two\n- x")).toEqual([
    { kind: "paragraph", spans: text("To do:") },
    { kind: "list", ordered: true, start: 1, items: [text("one\nmore"), text("two")] },
    { kind: "list", ordered: false, start: 1, items: [text("x")] },
  ]);
  expect(blocks("3) c")).toEqual([{ kind: "list", ordered: true, start: 3, items: [text("c")] }]);
  expect(blocks("- a\n\nafter").at(-1)).toEqual({ kind: "paragraph", spans: text("after") });
});

test("headings lose their signs, and a hash without a space is text", () => {
  expect(blocks("## Title ##\n#hash")).toEqual([
    { kind: "heading", spans: text("Title") },
    { kind: "paragraph", spans: text("#hash") },
  ]);
});

test("marks within a line", () => {
  expect(spans("a **b** *c* `d * e`")).toEqual([
    { kind: "text", text: "a " },
    { kind: "strong", text: "b" },
    { kind: "text", text: " " },
    { kind: "em", text: "c" },
    { kind: "text", text: " " },
    { kind: "code", text: "d * e" },
  ]);
});

test("a mark without its end is text", () => {
  for (const plain of ["2 * 3 * 4", "**open", "`open", "a*", "***", "** a **"]) expect(spans(plain)).toEqual(text(plain));
});

test("no character is lost and nothing takes long, whatever is written", () => {
  const alphabet = ["*", "`", "a", " ", "\n", "**"];
  let seed = 1;
  for (let round = 0; round < 500; round++) {
    let written = "";
    for (let length = 0; length < 40; length++) {
      seed = (seed * 48271) % 2147483647;
      written += alphabet[seed % alphabet.length];
    }
    const shown = spans(written).map((span) => span.text);
    expect(shown.join("").replace(/[\s`*]/g, "")).toBe(written.replace(/[\s`*]/g, ""));
  }
  const began = performance.now();
  spans("*a ".repeat(5_000));
  expect(performance.now() - began).toBeLessThan(2_000);
});
