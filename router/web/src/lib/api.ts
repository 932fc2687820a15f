// Talks to the box. Every failure becomes an ApiError that holds the words for it.

import { BROKEN_OFF, explain, type Problem, UNREACHABLE } from "./problem";
import { EventParser } from "./sse";
import type { BoxStatus, ChatChunk, Claimed, ErrorDetail, Message, ModelInfo, Usage } from "./wire";

/** How long a short request may take. */
const SHORT_MS_MAX = 15_000;
/** How long the box may take to begin: it waits up to 10 minutes for a model to load. */
const BEGIN_MS_MAX = 660_000;
/** How long a stream from the box may be silent: it sends a sign of life every 5 s. */
const SILENCE_LOCAL_MS_MAX = 30_000;
/** The same from another server, which the box gives up by itself after 120 s. */
const SILENCE_UPSTREAM_MS_MAX = 150_000;

/** A key, or nothing for who is signed in: then the browser sends its cookie by itself. */
export type Credential = string | null;

export const SERVED_BY_LOCAL = "local";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly problem: Problem,
    /** The box's own word for it. */
    readonly code = "",
  ) {
    super(`${problem.title} ${problem.advice}`.trim());
  }
}

/** The words for whatever a call failed with. */
export function problemOf(error: unknown): Problem {
  return error instanceof ApiError ? error.problem : UNREACHABLE;
}

export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  const signal = init.signal ?? AbortSignal.timeout(SHORT_MS_MAX);
  let response: Response;
  try {
    response = await fetch(path, { ...init, signal });
  } catch {
    throw new ApiError(0, UNREACHABLE);
  }
  if (response.ok) return response;
  const body = (await response.json().catch(() => null)) as { error?: ErrorDetail } | null;
  const waitS = Number(response.headers.get("retry-after") ?? NaN);
  const problem = explain(response.status, body?.error ?? null, Number.isFinite(waitS) ? waitS : null);
  throw new ApiError(response.status, problem, body?.error?.code ?? "");
}

export async function json<T>(response: Response): Promise<T> {
  return response.json().catch(() => {
    throw new ApiError(0, UNREACHABLE);
  });
}

export function post(key: Credential, body: unknown): RequestInit {
  return { method: "POST", headers: { ...bearer(key), "content-type": "application/json" }, body: JSON.stringify(body) };
}

export function bearer(key: Credential): Record<string, string> {
  return key === null ? {} : { authorization: `Bearer ${key}` };
}

export async function boxStatus(): Promise<BoxStatus> {
  return json(await request("/claim"));
}

export async function claim(code: string, owner: string, password: string): Promise<Claimed> {
  const body = password === "" ? { code, owner } : { code, owner, password };
  return json(await request("/claim", post(null, body)));
}

export async function models(key: Credential): Promise<ModelInfo[]> {
  const list = await json<{ data: ModelInfo[] }>(await request("/v1/models", { headers: bearer(key) }));
  return list.data;
}

export interface Reply {
  usage: Usage | null;
  finishReason: string | null;
}

export interface Listener {
  /** The answer begins; says where it is computed: `local` or `upstream:NAME`. */
  onStart(servedBy: string): void;
  /** The next piece of the answer. */
  onText(text: string): void;
}

/** Streams an answer. Ends with an ApiError when it breaks off, also after `stop`. */
export async function chat(
  key: Credential,
  model: string,
  messages: Message[],
  listener: Listener,
  stop: AbortSignal,
): Promise<Reply> {
  const watchdog = new Watchdog();
  const body = { model, messages, stream: true, stream_options: { include_usage: true } };
  try {
    watchdog.expect(BEGIN_MS_MAX);
    const signal = AbortSignal.any([stop, watchdog.signal]);
    const response = await request("/v1/chat/completions", { ...post(key, body), signal });
    const servedBy = response.headers.get("x-allerac-served-by") ?? "";
    listener.onStart(servedBy);
    const silenceMax = servedBy === SERVED_BY_LOCAL ? SILENCE_LOCAL_MS_MAX : SILENCE_UPSTREAM_MS_MAX;
    return await read(response, listener, () => watchdog.expect(silenceMax));
  } finally {
    watchdog.rest();
  }
}

async function read(response: Response, listener: Listener, onLife: () => void): Promise<Reply> {
  const reply: Reply = { usage: null, finishReason: null };
  const parser = new EventParser();
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    onLife();
    const piece = await reader?.read().catch(() => undefined);
    if (!piece || piece.done) throw new ApiError(0, BROKEN_OFF);
    for (const data of parser.push(piece.value)) {
      if (data === "[DONE]") return reply;
      const chunk = parse(data);
      if (chunk.error) throw new ApiError(500, explain(500, chunk.error, null));
      const choice = chunk.choices?.[0];
      if (choice?.delta?.content) listener.onText(choice.delta.content);
      reply.finishReason = choice?.finish_reason ?? reply.finishReason;
      reply.usage = chunk.usage ?? reply.usage;
    }
  }
}

function parse(data: string): ChatChunk {
  try {
    return JSON.parse(data) as ChatChunk;
  } catch {
    throw new ApiError(0, BROKEN_OFF);
  }
}

/** Aborts what shows no life for longer than expected. */
class Watchdog {
  private readonly controller = new AbortController();
  private timer: ReturnType<typeof setTimeout> | undefined;
  readonly signal = this.controller.signal;

  expect(withinMs: number) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.controller.abort(), withinMs);
  }

  rest() {
    clearTimeout(this.timer);
  }
}
