// The official Ollama client.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Ollama } from "ollama";
import { AGENT, EMBEDDING, KEY, MODEL, URL_, WEATHER, needsAgent, needsEmbedding } from "./where.js";

const client = new Ollama({ host: URL_, headers: { Authorization: `Bearer ${KEY}` } });
const messages = [{ role: "user", content: "Say hello." }];
const tools = [{ type: "function", function: { name: "get_weather", description: "The weather.", parameters: WEATHER } }];

test("the list of models", async () => {
  const { models } = await client.list();
  assert.ok(models.some(({ model }) => model.replace(/:latest$/, "") === MODEL));
});

test("what a model is", async () => {
  assert.ok((await client.show({ model: MODEL })).capabilities.includes("completion"));
});

test("chat", async () => {
  const done = await client.chat({ model: MODEL, messages, options: { num_predict: 20 } });
  assert.ok(done.message.content && done.eval_count > 0);
});

test("chat streams", async () => {
  let text = "";
  for await (const part of await client.chat({ model: MODEL, messages, stream: true, options: { num_predict: 20 } })) {
    text += part.message.content;
  }
  assert.ok(text);
});

test("chat of a schema", async () => {
  const done = await client.chat({ model: MODEL, messages, format: WEATHER, options: { num_predict: 200 } });
  assert.equal(typeof JSON.parse(done.message.content).city, "string");
});

test("tools", needsAgent, async () => {
  const asked = await client.chat({ model: AGENT, messages, tools });
  assert.deepEqual(asked.message.tool_calls[0].function.arguments, { city: "Paris", days: 7 });
  const told = [...messages, asked.message, { role: "tool", tool_name: "get_weather", content: "sunny" }];
  const done = await client.chat({ model: AGENT, messages: told });
  assert.equal(done.message.content, "The tool said: sunny");
});

test("generate", async () => {
  assert.ok((await client.generate({ model: MODEL, prompt: "Hi", options: { num_predict: 10 } })).response);
});

test("embed", needsEmbedding, async () => {
  const { embeddings } = await client.embed({ model: EMBEDDING, input: ["a", "b"] });
  assert.deepEqual(embeddings.map((vector) => vector.length), [384, 384]);
});
