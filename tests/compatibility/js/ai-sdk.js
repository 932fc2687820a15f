// What Vercel's AI SDK does with a provider, whichever it is.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Output, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { AGENT, MODEL, needsAgent } from "./where.js";

const common = { prompt: "Say hello.", maxOutputTokens: 200, maxRetries: 0 };
const schema = z.object({ name: z.string(), age: z.number().int() });
const weather = (execute) =>
  tool({ description: "The weather.", inputSchema: z.object({ city: z.string() }), ...(execute && { execute }) });

/** Tests of a provider; `model` makes its models by their names. Not every provider can say that a tool must be called. */
export function works(name, model, { forces = true } = {}) {
  const forced = { skip: forces ? false : "the provider cannot say that a tool must be called" };

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

  test(`${name}: a forced tool`, forced, async () => {
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
