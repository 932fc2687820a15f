// Talks to the box. Every failure becomes an ApiError with words for the person in front of it.

import { EventParser } from "./sse";
import type { BoxStatus, ChatChunk, Claimed, Message, ModelInfo, Usage } from "./wire";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

async function request(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "The box cannot be reached. Is it on, and are you on its network?");
  }
  if (response.ok) return response;
  const body: unknown = await response.json().catch(() => null);
  throw new ApiError(response.status, explain(response.status, body));
}

function explain(status: number, body: unknown): string {
  const said = (body as { error?: { message?: string } } | null)?.error?.message;
  const message = said ? said.charAt(0).toUpperCase() + said.slice(1) + "." : `The box answered with status ${status}.`;
  if (status === 401) return "This key does not open the box: " + message;
  if (status === 503) return message + " Try again in a moment.";
  return message;
}

function bearer(key: string): Record<string, string> {
  return { authorization: `Bearer ${key}` };
}

export async function boxStatus(): Promise<BoxStatus> {
  return (await request("/claim")).json();
}

export async function claim(code: string, owner: string): Promise<Claimed> {
  const body = JSON.stringify({ code, owner });
  return (await request("/claim", { method: "POST", headers: { "content-type": "application/json" }, body })).json();
}

export async function models(key: string): Promise<ModelInfo[]> {
  const list: { data: ModelInfo[] } = await (await request("/v1/models", { headers: bearer(key) })).json();
  return list.data;
}

export interface Reply {
  usage: Usage | null;
  finishReason: string | null;
  servedBy: string;
}

/** Streams an answer; `onText` gets each piece of it as it comes. */
export async function chat(
  key: string,
  model: string,
  messages: Message[],
  onText: (text: string) => void,
  signal: AbortSignal,
): Promise<Reply> {
  const response = await request("/v1/chat/completions", {
    method: "POST",
    headers: { ...bearer(key), "content-type": "application/json" },
    body: JSON.stringify({ model, messages, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  const reply: Reply = { usage: null, finishReason: null, servedBy: response.headers.get("x-allerac-served-by") ?? "" };
  if (!response.body) throw new ApiError(0, "This browser cannot read streams.");
  const parser = new EventParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read().catch((error: unknown) => {
      if (signal.aborted) throw error;
      throw new ApiError(0, "The connection to the box broke off.");
    });
    if (done) throw new ApiError(0, "The answer broke off.");
    for (const data of parser.push(value)) {
      if (data === "[DONE]") return reply;
      const chunk = JSON.parse(data) as ChatChunk;
      if (chunk.error) throw new ApiError(500, explain(500, chunk));
      const choice = chunk.choices?.[0];
      if (choice?.delta?.content) onText(choice.delta.content);
      reply.finishReason = choice?.finish_reason ?? reply.finishReason;
      reply.usage = chunk.usage ?? reply.usage;
    }
  }
}
