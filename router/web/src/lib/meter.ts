// How fast an answer came, measured in this browser.

export interface Measure {
  /** Where it was computed: `local` or `upstream:NAME`. */
  servedBy: string;
  /** From sending the question to the first piece of the answer. */
  firstMs: number;
  /** Tokens of the answer; null when it was stopped before the box counted them for us. */
  tokens: number | null;
  tokensPerSecond: number | null;
}

/** Notes when a question was sent and when the pieces of its answer came. */
export class Meter {
  servedBy = "";
  private firstAt: number | null = null;
  private lastAt = 0;

  constructor(private readonly sentAt: number) {}

  text(at: number) {
    this.firstAt ??= at;
    this.lastAt = at;
  }

  /** The first token's time belongs to reading the prompt, so the speed is that of the others. */
  measure(tokens: number | null): Measure | null {
    if (this.firstAt === null) return null;
    const spanMs = this.lastAt - this.firstAt;
    const tokensPerSecond = tokens !== null && tokens > 1 && spanMs > 0 ? ((tokens - 1) / spanMs) * 1000 : null;
    return { servedBy: this.servedBy, firstMs: this.firstAt - this.sentAt, tokens, tokensPerSecond };
  }
}

/** `on this box`, or `on NAME` for another server; empty when the box did not say. */
export function place(servedBy: string): string {
  if (servedBy === "local") return "on this box";
  return servedBy === "" ? "" : `on ${servedBy.replace(/^upstream:/, "")}`;
}

/** `on this box · 23.4 tokens/s · first word after 0.4 s · 57 tokens`, as its parts. */
export function words(measure: Measure): string[] {
  const speed = measure.tokensPerSecond;
  return [
    place(measure.servedBy),
    speed === null ? "" : `${speed.toFixed(speed < 100 ? 1 : 0)} tokens/s`,
    `first word after ${(measure.firstMs / 1000).toFixed(1)} s`,
    measure.tokens === null ? "" : `${measure.tokens} token${measure.tokens === 1 ? "" : "s"}`,
  ].filter((part) => part !== "");
}
