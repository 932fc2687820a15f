// One conversation with the box, and how fast it answers.

import { ApiError, chat } from "./api";
import { storage } from "./storage";
import type { Message } from "./wire";

export interface Turn extends Message {
  /** Under an answer: how it went. */
  note?: string;
}

export class Conversation {
  turns = $state<Turn[]>(storage.turns());
  /** An answer is being written. */
  busy = $state(false);
  error = $state("");
  private abort: AbortController | null = null;

  /** Asks; resolves to false when there was no answer at all, so that the question can be kept. */
  async ask(key: string, model: string, question: string): Promise<boolean> {
    this.error = "";
    this.busy = true;
    this.abort = new AbortController();
    this.turns.push({ role: "user", content: question }, { role: "assistant", content: "" });
    const messages = this.turns.slice(0, -1).map(({ role, content }) => ({ role, content }));
    const sent = performance.now();
    let first = 0;
    let last = 0;
    const onText = (text: string) => {
      last = performance.now();
      first ||= last;
      const answer = this.turns.at(-1);
      if (answer) answer.content += text;
    };
    let note = "";
    try {
      const reply = await chat(key, model, messages, onText, this.abort.signal);
      const tokens = reply.usage?.completion_tokens ?? 0;
      note = speed(tokens, first - sent, last - first, reply.servedBy);
      if (reply.finishReason === "length") note += " · cut at its longest";
    } catch (error) {
      if (!this.abort.signal.aborted) this.error = error instanceof ApiError ? error.message : String(error);
      note = this.abort.signal.aborted ? "stopped" : "";
    }
    return this.finish(note);
  }

  stop() {
    this.abort?.abort();
  }

  clear() {
    this.stop();
    this.turns = [];
    this.error = "";
    storage.setTurns([]);
  }

  private finish(note: string): boolean {
    this.busy = false;
    const answer = this.turns.at(-1);
    const answered = answer !== undefined && answer.content !== "";
    if (answered) answer.note = note;
    else this.turns.splice(-2);
    storage.setTurns(this.turns);
    return answered;
  }
}

/** `23.4 tokens/s · first word after 0.4 s · on this box`. The first token's time is the prompt's, not the speed's. */
function speed(tokens: number, firstMs: number, restMs: number, servedBy: string): string {
  const place = servedBy === "local" ? "on this box" : servedBy.replace("upstream:", "on ");
  const parts = [`first word after ${(firstMs / 1000).toFixed(1)} s`, place].filter((part) => part !== "");
  if (tokens > 1 && restMs > 0) parts.unshift(`${(((tokens - 1) / restMs) * 1000).toFixed(1)} tokens/s`);
  return parts.join(" · ");
}
