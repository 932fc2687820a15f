import { expect, test } from "vitest";

import { blocks } from "./text";

test("fences separate code from text", () => {
  expect(blocks("Hi\n```py\nx = 1\n```\nbye")).toEqual([
    { kind: "text", text: "Hi" },
    { kind: "code", text: "x = 1" },
    { kind: "text", text: "bye" },
  ]);
});

test("a fence still open is code already", () => {
  expect(blocks("```\n<script>")).toEqual([{ kind: "code", text: "<script>" }]);
});
