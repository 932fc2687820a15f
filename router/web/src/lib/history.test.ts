import { expect, test } from "vitest";

import { type Chat, History, newChat, title } from "./history";
import { inMemory } from "./storage";

const chat = (id: string, changedAt: number, content = id): Chat => ({ id, changedAt, turns: [{ role: "user", content }] });

test("the newest chat comes first and each can be removed", () => {
  const history = new History(inMemory());
  history.save(chat("a", 1));
  history.save(chat("b", 3));
  history.save(chat("c", 2));
  expect(history.list().map(({ id }) => id)).toEqual(["b", "c", "a"]);
  history.remove("b");
  expect(history.load("b")).toBeNull();
  history.clear();
  expect(history.list()).toEqual([]);
});

test("clearing leaves what is not a chat", () => {
  const store = inMemory();
  store.setItem("allerac.key", "k");
  const history = new History(store);
  history.save(chat("a", 1));
  history.clear();
  expect(store.getItem("allerac.key")).toBe("k");
});

test("a damaged chat is left out", () => {
  const store = inMemory();
  for (const [id, kept] of Object.entries({ a: "{", b: "null", c: '{"changedAt":1,"turns":[{"role":"x","content":""}]}' }))
    store.setItem(`allerac.chat.${id}`, kept);
  expect(new History(store).list()).toEqual([]);
});

test("an answer that was being written when the page closed broke off, and an empty one is gone", () => {
  const history = new History(inMemory());
  const answer = { role: "assistant", model: "m", end: null, measure: null } as const;
  history.save({ id: "a", changedAt: 1, turns: [{ role: "user", content: "q" }, { ...answer, content: "half" }] });
  expect(history.load("a")?.turns[1]).toEqual({ ...answer, content: "half", end: "broken" });
  history.save({ id: "b", changedAt: 1, turns: [{ role: "user", content: "q" }, { ...answer, content: "" }] });
  expect(history.load("b")?.turns).toEqual([{ role: "user", content: "q" }]);
});

test("a full browser loses the oldest chats, not the newest", () => {
  const store = inMemory();
  const small = {
    ...store,
    get length() {
      return store.length;
    },
    setItem(name: string, value: string) {
      if (store.getItem(name) === null && store.length >= 2) throw new Error("full");
      store.setItem(name, value);
    },
  };
  const history = new History(small);
  for (const age of [1, 2, 3]) history.save(chat(`c${age}`, age));
  expect(history.list().map(({ id }) => id)).toEqual(["c3", "c2"]);
});

test("at most a hundred are kept", () => {
  const history = new History(inMemory());
  for (let age = 0; age < 105; age++) history.save(chat(`c${age}`, age));
  expect(history.list()).toHaveLength(100);
  expect(history.load("c104")).not.toBeNull();
});

test("a title is the first question, short", () => {
  expect(title(chat("a", 1, "What\n is  this?"))).toBe("What is this?");
  expect(title(chat("a", 1, "x".repeat(100)))).toBe("x".repeat(60) + "…");
  expect(newChat().id).not.toBe(newChat().id);
});
