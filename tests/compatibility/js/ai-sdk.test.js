// Vercel's AI SDK, with each of its providers that take an address.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, embedMany, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { AGENT, EMBEDDING, KEY, MODEL, URL_, needsAgent, needsEmbedding } from "./where.js";

const baseURL = `${URL_}/v1`;
const openai = createOpenAI({ baseURL, apiKey: KEY });
const compatible = createOpenAICompatible({ name: "box", baseURL, apiKey: KEY, includeUsage: true, supportsStructuredOutputs: true });
const anthropic = createAnthropic({ baseURL, apiKey: KEY });
const providers = {
  "openai (responses)": openai.responses,
  "openai (chat)": openai.chat,
  "openai-compatible": (name) => compatible.chatModel(name),
  anthropic,
};
const common = { prompt: "Say hello.", maxOutputTokens: 200, maxRetries: 0 };
const schema = z.object({ name: z.string(), age: z.number().int() });
const weather = (execute) =>
  tool({ description: "The weather.", inputSchema: z.object({ city: z.string() }), ...(execute && { execute }) });

for (const [name, model] of Object.entries(providers)) {
  test(`${name}: text`, async () => {
    const done = await generateText({ ...common, model: model(MODEL), system: "Be brief." });
    assert.ok(done.text && done.usage.outputTokens > 0);
  });

  test(`${name}: a stream`, async () => {
    const stream = streamText({ ...common, model: model(MODEL), onError: ({ error }) => { throw error; } });
    let text = "";
    for await (const piece of stream.textStream) text += piece;
    assert.ok(text && (await stream.usage).outputTokens > 0);
  });

  test(`${name}: an object`, async () => {
    const done = await generateText({ ...common, model: model(MODEL), output: Output.object({ schema }) });
    assert.equal(typeof done.output.name, "string");
  });

  test(`${name}: a stream of an object`, async () => {
    const stream = streamText({ ...common, model: model(MODEL), output: Output.object({ schema }) });
    let last;
    for await (const partial of stream.partialOutputStream) last = partial;
    assert.equal(typeof last.name, "string");
  });

  test(`${name}: a forced tool`, async () => {
    const done = await generateText({ ...common, model: model(MODEL), tools: { weather: weather() }, toolChoice: "required" });
    assert.equal(done.toolCalls[0].toolName, "weather");
    assert.equal(typeof done.toolCalls[0].input.city, "string");
  });

  test(`${name}: a loop with tools`, needsAgent, async () => {
    const done = await generateText({ ...common, model: model(AGENT), tools: { weather: weather(({ city }) => `sunny in ${city}`) }, stopWhen: stepCountIs(3) });
    assert.equal(done.steps.length, 2);
    assert.match(done.text, /The tool said: .*sunny in Paris/);
  });

  test(`${name}: a loop with tools, streamed`, needsAgent, async () => {
    const stream = streamText({ ...common, model: model(AGENT), tools: { weather: weather(({ city }) => `sunny in ${city}`) }, stopWhen: stepCountIs(3) });
    assert.match(await stream.text, /The tool said: .*sunny in Paris/);
  });
}

test("embeddings", needsEmbedding, async () => {
  const { embeddings } = await embedMany({ model: openai.embedding(EMBEDDING), values: ["a", "b"] });
  assert.deepEqual(embeddings.map((vector) => vector.length), [384, 384]);
});
