// The part of Markdown that models write most, as data: what shows it makes elements, never HTML from text.
// Links and images stay text on purpose: the page asks no other host for anything.

export interface Span {
  kind: "text" | "strong" | "em" | "code";
  text: string;
}

export type Block =
  | { kind: "paragraph" | "heading"; spans: Span[] }
  | { kind: "list"; ordered: boolean; start: number; items: Span[][] }
  | { kind: "code"; language: string; text: string };

type Draft =
  | { kind: "paragraph" | "heading"; lines: string[] }
  | { kind: "list"; ordered: boolean; start: number; items: string[][] }
  | { kind: "code"; language: string; lines: string[] };

const FENCE = /^ {0,12}(```+|~~~+)([^`]*)$/;
const HEADING = /^#{1,6} +(.*)$/;
const ITEM = /^ *(?:[-*+]|(\d{1,9})[.)]) +(.*)$/;

/** Reads an answer, also one that is still being written: a fence that is not closed yet runs to the end. */
export function blocks(answer: string): Block[] {
  const drafts: Draft[] = [];
  let fence: string | null = null;
  let afterBlank = true;
  for (const line of answer.split(/\r?\n/)) {
    const last = drafts.at(-1);
    if (fence !== null && last?.kind === "code") {
      if (line.trim().startsWith(fence) && /^[`~]+$/.test(line.trim())) fence = null;
      else last.lines.push(line);
      continue;
    }
    const opening = FENCE.exec(line);
    if (opening) {
      fence = opening[1] ?? "```";
      drafts.push({ kind: "code", language: (opening[2] ?? "").trim().split(" ")[0] ?? "", lines: [] });
    } else if (line.trim() !== "") {
      prose(drafts, line, afterBlank);
    }
    afterBlank = line.trim() === "";
  }
  return drafts.map(finish);
}

function prose(drafts: Draft[], line: string, afterBlank: boolean) {
  const last = drafts.at(-1);
  const heading = HEADING.exec(line);
  if (heading) {
    drafts.push({ kind: "heading", lines: [(heading[1] ?? "").replace(/ +#+ *$/, "")] });
    return;
  }
  const item = ITEM.exec(line);
  if (item) {
    const ordered = item[1] !== undefined;
    const text = [item[2] ?? ""];
    if (last?.kind === "list" && last.ordered === ordered) last.items.push(text);
    else drafts.push({ kind: "list", ordered, start: Number(item[1] ?? 1), items: [text] });
  } else if (last?.kind === "list" && (!afterBlank || line.startsWith("  "))) {
    last.items.at(-1)?.push(line.trim());
  } else if (last?.kind === "paragraph" && !afterBlank) {
    last.lines.push(line);
  } else {
    drafts.push({ kind: "paragraph", lines: [line] });
  }
}

function finish(draft: Draft): Block {
  switch (draft.kind) {
    case "code":
      return { kind: "code", language: draft.language, text: draft.lines.join("\n") };
    case "list":
      return { ...draft, items: draft.items.map((lines) => spans(lines.join("\n"))) };
    default:
      return { kind: draft.kind, spans: spans(draft.lines.join("\n")) };
  }
}

/** Marks within a line; a mark without its end is text. */
export function spans(text: string): Span[] {
  const found: Span[] = [];
  let plainFrom = 0;
  let at = 0;
  while (at < text.length) {
    const mark = /`+|\*+/.exec(text.slice(at));
    if (!mark) break;
    const begin = at + mark.index;
    const inner = begin + mark[0].length;
    const kind = kindOf(mark[0]);
    const end = kind ? closing(text, mark[0], inner) : -1;
    if (!kind || end < 0) {
      at = inner;
      continue;
    }
    if (begin > plainFrom) found.push({ kind: "text", text: text.slice(plainFrom, begin) });
    const content = text.slice(inner, end);
    found.push({ kind, text: kind === "code" ? content.trim() : content });
    at = plainFrom = end + mark[0].length;
  }
  if (plainFrom < text.length) found.push({ kind: "text", text: text.slice(plainFrom) });
  return found;
}

function kindOf(mark: string): Span["kind"] | null {
  if (mark.startsWith("`")) return "code";
  return mark === "**" ? "strong" : mark === "*" ? "em" : null;
}

/** Where the mark that was opened before `from` ends: `2 * 3 * 4` opens nothing. */
function closing(text: string, mark: string, from: number): number {
  const end = text.indexOf(mark, from);
  if (end <= from) return -1;
  if (mark.startsWith("`")) return end;
  const touches = !/\s/.test(text.charAt(from)) && !/\s/.test(text.charAt(end - 1));
  const alone = text.charAt(end + mark.length) !== "*";
  return touches && alone ? end : -1;
}
