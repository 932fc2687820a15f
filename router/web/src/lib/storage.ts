// What this browser remembers: the key, the model, and the conversation. All of it stays here.

import type { Turn } from "./conversation.svelte";

const KEY = "allerac.key";
const MODEL = "allerac.model";
const TURNS = "allerac.turns";

export const storage = {
  key: () => localStorage.getItem(KEY),
  setKey: (key: string) => localStorage.setItem(KEY, key),
  model: () => localStorage.getItem(MODEL),
  setModel: (model: string) => localStorage.setItem(MODEL, model),
  turns(): Turn[] {
    try {
      const turns: unknown = JSON.parse(localStorage.getItem(TURNS) ?? "[]");
      return Array.isArray(turns) ? turns : [];
    } catch {
      return [];
    }
  },
  setTurns(turns: Turn[]) {
    try {
      localStorage.setItem(TURNS, JSON.stringify(turns));
    } catch {
      // The browser's space is full: the conversation goes on, it is only not remembered.
    }
  },
  forget() {
    localStorage.removeItem(KEY);
    localStorage.removeItem(TURNS);
  },
};
