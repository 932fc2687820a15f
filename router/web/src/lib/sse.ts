// Server-sent events, read from text that comes in pieces (WHATWG HTML, section 9.2.6).

/** Puts events together; `push` returns the data of every event complete by now. */
export class EventParser {
  private rest = "";

  push(text: string): string[] {
    this.rest += text;
    const events: string[] = [];
    for (;;) {
      const end = /\r\n\r\n|\n\n|\r\r/.exec(this.rest);
      if (!end) return events;
      const block = this.rest.slice(0, end.index);
      this.rest = this.rest.slice(end.index + end[0].length);
      const data = block
        .split(/\r\n|\n|\r/)
        .filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).replace(/^ /, ""));
      if (data.length > 0) events.push(data.join("\n"));
    }
  }
}
