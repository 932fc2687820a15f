// The official OpenAI client.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { AGENT, EMBEDDING, KEY, MODEL, URL_, WEATHER, needsAgent, needsEmbedding } from "./where.js";

const client = new OpenAI({ baseURL: `${URL_}/v1`, apiKey: KEY, maxRetries: 0, timeout: 240_000 });
const messages = [{ role: "user", content: "Say hello." }];
const tools = [{ type: "function", function: { name: "get_weather", parameters: WEATHER } }];
const Person = z.object({ name: z.string(), age: z.number().int() });

const chat = (options) => client.chat.completions.create({ model: MODEL, messages, max_tokens: 40, ...options });

test("chat", async () => {
  const done = await chat();
  assert.ok(done.choices[0].message.content);
  assert.ok(done.usage.total_tokens > 0);
});

test("chat streams", async () => {
  let text = "";
  for await (const chunk of await chat({ stream: true })) text += chunk.choices[0]?.delta.content ?? "";
  assert.ok(text);
});

test("chat is parsed", async () => {
  const response_format = zodResponseFormat(Person, "person");
  const done = await client.chat.completions.parse({ model: MODEL, messages, response_format, max_tokens: 200 });
  assert.equal(typeof done.choices[0].message.parsed.name, "string");
});

test("a forced tool", async () => {
  const done = await chat({ tools, tool_choice: "required", max_tokens: 200 });
  const call = done.choices[0].message.tool_calls[0];
  assert.equal(typeof JSON.parse(call.function.arguments).city, "string");
});

test("a stream of chat is put together", async () => {
  const runner = client.chat.completions.stream({ model: MODEL, messages, tools, tool_choice: "required", max_tokens: 200 });
  const done = await runner.finalChatCompletion();
  assert.equal(done.choices[0].message.tool_calls[0].function.name, "get_weather");
});

test("tools are run", needsAgent, async () => {
  const runner = client.chat.completions.runTools({
    model: AGENT,
    messages,
    tools: [{ type: "function", function: { name: "get_weather", parameters: WEATHER, parse: JSON.parse, function: ({ city }) => `sunny in ${city}` } }],
  });
  assert.equal(await runner.finalContent(), "The tool said: sunny in Paris");
});

test("a response", async () => {
  const done = await client.responses.create({ model: MODEL, input: "Say hello.", max_output_tokens: 40 });
  assert.ok(done.output_text);
});

test("a response is parsed", async () => {
  const text = { format: zodTextFormat(Person, "person") };
  const done = await client.responses.parse({ model: MODEL, input: "Who are you?", text, max_output_tokens: 200 });
  assert.equal(typeof done.output_parsed.name, "string");
});

test("a response streams", async () => {
  const stream = client.responses.stream({ model: MODEL, input: "Say hello.", max_output_tokens: 40 });
  let told = "";
  stream.on("response.output_text.delta", (event) => (told += event.delta));
  const done = await stream.finalResponse();
  assert.equal(told, done.output_text);
});

test("a response goes on", async () => {
  const first = await client.responses.create({ model: MODEL, input: "I am Anna.", max_output_tokens: 20 });
  const second = await client.responses.create({ model: MODEL, input: "Who am I?", previous_response_id: first.id, max_output_tokens: 20 });
  assert.equal(second.previous_response_id, first.id);
});

test("embeddings", needsEmbedding, async () => {
  const done = await client.embeddings.create({ model: EMBEDDING, input: ["a", "b"] });
  assert.deepEqual(done.data.map((entry) => entry.embedding.length), [384, 384]);
});

test("models", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.ok(names.includes(MODEL));
});

test("an unknown model", async () => {
  await assert.rejects(chat({ model: "no-such-model" }), OpenAI.NotFoundError);
});

test("a wrong key", async () => {
  const other = new OpenAI({ baseURL: `${URL_}/v1`, apiKey: "sk-wrong", maxRetries: 0 });
  await assert.rejects(other.chat.completions.create({ model: MODEL, messages }), OpenAI.AuthenticationError);
});
