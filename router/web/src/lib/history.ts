// The chats kept in this browser. Each is an item of its own, so that two tabs do not overwrite each other's.

import type { Measure } from "./meter";
import type { Store } from "./storage";

/** How an answer ended: as the model wished, at its longest, by the reader, or by a fault. */
export type End = "complete" | "length" | "stopped" | "broken";

export type Turn =
  | { role: "user"; content: string }
  /** `end` is null while it is written. */
  | { role: "assistant"; content: string; model: string; end: End | null; measure: Measure | null };

export interface Chat {
  id: string;
  /** Milliseconds since 1970. */
  changedAt: number;
  turns: Turn[];
}

const PREFIX = "allerac.chat.";
/** More than anybody looks through; the oldest goes first. */
const CHATS_MAX = 100;
const TITLE_CHARS_MAX = 60;

export class History {
  constructor(private readonly store: Store) {}

  /** The newest first. */
  list(): Chat[] {
    const chats = this.ids().map((id) => this.load(id));
    return chats.filter((chat) => chat !== null).sort((a, b) => b.changedAt - a.changedAt);
  }

  load(id: string): Chat | null {
    try {
      return parse(id, JSON.parse(this.store.getItem(PREFIX + id) ?? "null"));
    } catch {
      return null;
    }
  }

  /** Keeps a chat; when the browser has no room, the oldest others make some. */
  save(chat: Chat) {
    const { id, ...kept } = chat;
    const others = this.list().filter((other) => other.id !== id);
    while (others.length >= CHATS_MAX) this.remove(others.pop()?.id ?? "");
    for (;;) {
      try {
        this.store.setItem(PREFIX + id, JSON.stringify(kept));
        return;
      } catch {
        const oldest = others.pop();
        if (!oldest) return;
        this.remove(oldest.id);
      }
    }
  }

  remove(id: string) {
    this.store.removeItem(PREFIX + id);
  }

  clear() {
    for (const id of this.ids()) this.remove(id);
  }

  private ids(): string[] {
    const names = Array.from({ length: this.store.length }, (_, index) => this.store.key(index) ?? "");
    return names.filter((name) => name.startsWith(PREFIX)).map((name) => name.slice(PREFIX.length));
  }
}

export function title(chat: Chat): string {
  const first = chat.turns[0]?.content.replace(/\s+/g, " ").trim() ?? "";
  return first.length > TITLE_CHARS_MAX ? first.slice(0, TITLE_CHARS_MAX).trimEnd() + "…" : first;
}

/** Neither `crypto.randomUUID` nor the clipboard exist on a page without HTTPS, as a box at home has it. */
export function newChat(): Chat {
  const random = crypto.getRandomValues(new Uint32Array(2));
  return { id: Array.from(random, (part) => part.toString(36)).join(""), changedAt: Date.now(), turns: [] };
}

/** A chat as it was kept; null when it is damaged. An answer that was being written then broke off. */
function parse(id: string, kept: unknown): Chat | null {
  const { changedAt, turns } = (kept ?? {}) as Partial<Chat>;
  if (typeof changedAt !== "number" || !Array.isArray(turns) || !turns.every(isTurn)) return null;
  const ended = turns.map((turn): Turn =>
    turn.role === "assistant" && turn.end === null ? { ...turn, end: "broken" } : turn,
  );
  return { id, changedAt, turns: ended.filter((turn) => turn.content !== "") };
}

function isTurn(turn: unknown): turn is Turn {
  const { role, content } = (turn ?? {}) as Partial<Turn>;
  return typeof content === "string" && (role === "user" || role === "assistant");
}
