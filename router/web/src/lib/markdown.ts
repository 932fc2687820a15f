// Splits an answer into paragraphs and code, so that it can be shown without interpreting any HTML.

export interface Block {
  kind: "text" | "code";
  text: string;
}

/** A fence that is not closed yet runs to the end: answers are shown while they are written. */
export function blocks(answer: string): Block[] {
  const parts = answer.split(/^```[^\n]*\n?/m);
  return parts
    .map((text, index): Block => ({ kind: index % 2 === 1 ? "code" : "text", text: text.replace(/^\n+|\n+$/g, "") }))
    .filter((block) => block.text !== "");
}
