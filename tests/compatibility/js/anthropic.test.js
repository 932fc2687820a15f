// The official Anthropic client.

import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import { AGENT, KEY, MODEL, URL_, WEATHER, needsAgent } from "./where.js";

const client = new Anthropic({ baseURL: URL_, apiKey: KEY, maxRetries: 0, timeout: 240_000 });
const messages = [{ role: "user", content: "Say hello." }];
const tools = [{ name: "get_weather", input_schema: WEATHER }];

const ask = (options) => client.messages.create({ model: MODEL, messages, max_tokens: 40, ...options });

test("a message", async () => {
  const done = await ask({ system: "Be brief." });
  assert.ok(done.content[0].text);
  assert.ok(done.usage.output_tokens > 0);
});

test("a message streams", async () => {
  const stream = client.messages.stream({ model: MODEL, messages, max_tokens: 40 });
  let told = "";
  stream.on("text", (text) => (told += text));
  const done = await stream.finalMessage();
  assert.equal(told, done.content[0].text);
});

test("a forced tool", async () => {
  const done = await ask({ tools, tool_choice: { type: "any" }, max_tokens: 200 });
  const call = done.content.find((block) => block.type === "tool_use");
  assert.equal(typeof call.input.city, "string");
});

test("tools are run", needsAgent, async () => {
  const tool = { type: "custom", ...tools[0], run: ({ city }) => `sunny in ${city}`, parse: (input) => input };
  const done = await client.beta.messages.toolRunner({ model: AGENT, messages, max_tokens: 200, tools: [tool] });
  assert.equal(done.content[0].text, "The tool said: sunny in Paris");
});

test("tokens are counted", async () => {
  const counted = await client.messages.countTokens({ model: MODEL, messages });
  const { usage } = await ask();
  // What was known before is counted apart.
  assert.equal(counted.input_tokens, usage.input_tokens + (usage.cache_read_input_tokens ?? 0));
});

test("models", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.ok(names.includes(MODEL));
});

test("an unknown model", async () => {
  await assert.rejects(ask({ model: "no-such-model" }), Anthropic.NotFoundError);
});

test("a wrong key", async () => {
  const other = new Anthropic({ baseURL: URL_, apiKey: "sk-wrong", maxRetries: 0 });
  await assert.rejects(other.messages.create({ model: MODEL, messages, max_tokens: 5 }), Anthropic.AuthenticationError);
});
