// One conversation with the box: a question at a time, and nothing that was written is ever lost.

import { ApiError, chat as stream, type Credential, type Listener } from "./api";
import type { Chat, End, History, Turn } from "./history";
import { Meter } from "./meter";
import { BROKEN_OFF, type Problem } from "./problem";
import type { Message } from "./wire";

export class Conversation {
  readonly id: string;
  turns = $state<Turn[]>([]);
  /** An answer is being waited for or written. */
  busy = $state(false);
  /** Why the last question has no whole answer. */
  problem = $state<Problem | null>(null);
  private stopper: AbortController | null = null;
  private discarded = false;

  constructor(
    chat: Chat,
    private readonly history: History,
  ) {
    this.id = chat.id;
    this.turns = chat.turns;
  }

  /** The last question has no answer, or not all of it. */
  get unfinished(): boolean {
    const last = this.turns.at(-1);
    return !this.busy && last !== undefined && (last.role === "user" || last.end === "stopped" || last.end === "broken");
  }

  async ask(key: Credential, model: string, question: string) {
    this.turns.push({ role: "user", content: question });
    await this.answer(key, model);
  }

  /** Asks the last question once more; what came of its answer before is replaced. */
  async retry(key: Credential, model: string) {
    if (this.turns.at(-1)?.role === "assistant") this.turns.pop();
    await this.answer(key, model);
  }

  /** Takes the last question out again, to be changed. */
  takeBack(): string {
    if (this.turns.at(-1)?.role === "assistant") this.turns.pop();
    const question = this.turns.pop();
    this.problem = null;
    this.save();
    return question?.content ?? "";
  }

  stop() {
    this.stopper?.abort();
  }

  /** Stops, and is never kept again. */
  discard() {
    this.discarded = true;
    this.stop();
  }

  /** Keeps the conversation as it is now, with an answer that is half written. */
  save() {
    if (this.discarded) return;
    if (this.turns.length === 0) this.history.remove(this.id);
    else this.history.save({ id: this.id, changedAt: Date.now(), turns: $state.snapshot(this.turns) });
  }

  private async answer(key: Credential, model: string) {
    const stopper = new AbortController();
    const meter = new Meter(performance.now());
    const messages = history(this.turns);
    this.stopper = stopper;
    this.problem = null;
    this.busy = true;
    this.turns.push({ role: "assistant", content: "", model, end: null, measure: null });
    this.save();
    const listener: Listener = {
      onStart: (servedBy) => void (meter.servedBy = servedBy),
      onText: (text) => {
        meter.text(performance.now());
        const answer = this.turns.at(-1);
        if (answer) answer.content += text;
      },
    };
    try {
      const reply = await stream(key, model, messages, listener, stopper.signal);
      this.finish(reply.finishReason === "length" ? "length" : "complete", meter, reply.usage?.completion_tokens ?? null);
    } catch (error) {
      const stopped = stopper.signal.aborted;
      if (!stopped) this.problem = error instanceof ApiError ? error.problem : BROKEN_OFF;
      this.finish(stopped ? "stopped" : "broken", meter, null);
    }
  }

  private finish(end: End, meter: Meter, tokens: number | null) {
    const answer = this.turns.at(-1);
    if (answer?.role === "assistant") {
      answer.end = end;
      answer.measure = meter.measure(tokens);
      if (answer.content === "") this.turns.pop();
    }
    this.busy = false;
    this.save();
  }
}

/** What the model reads. Templates want the roles to take turns: a question without an answer joins the next. */
export function history(turns: Turn[]): Message[] {
  const messages: Message[] = [];
  for (const { role, content } of turns) {
    const last = messages.at(-1);
    if (last?.role === role) last.content += `\n\n${content}`;
    else messages.push({ role, content });
  }
  return messages;
}
