// Requests that leave the box for aimock, a scripted server that speaks the OpenAI API: tools, latency, faults.

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { LLMock } from "@copilotkit/aimock";
import OpenAI from "openai";
import { MODEL, Server } from "./allerac.js";

const TOOLS = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "The weather of a city",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];
const CALL = { name: "get_weather", arguments: '{"city":"Köln"}', id: "call_1" };
const USAGE = { prompt_tokens: 21, completion_tokens: 8, total_tokens: 29 };

let mock, server, key, client;

before(async () => {
  mock = new LLMock({ port: 0, chunkSize: 7 });
  mock.onMessage("hello", { content: "Hello from far away, wherever that is.", usage: USAGE });
  mock.on({ userMessage: "weather", hasToolResult: false }, { toolCalls: [CALL], usage: USAGE });
  mock.on({ userMessage: "weather", hasToolResult: true }, { content: "It rains in Köln.", usage: USAGE });
  mock.onMessage("slow", { content: "a b c d e f g h" }, { chunkSize: 2, streamingProfile: { ttft: 300, tps: 20 } });
  mock.onMessage("break off", { content: "one two three four five six" }, { chunkSize: 4, latency: 30, disconnectAfterMs: 100 });
  mock.onMessage("too many", { error: { message: "slow down", type: "rate_limit_error" }, status: 429 });
  mock.onMessage("explode", { error: { message: "internal stack trace" }, status: 500 });
  mock.onMessage("malformed", { content: "x" }, { chaos: { malformedRate: 1 } });
  mock.onMessage("disconnect", { content: "x" }, { chaos: { disconnectRate: 1 } });
  await mock.start();
  server = await Server.start(`
    [[upstream]]
    name = "mock"
    base_url = "${mock.url}/v1"
    models = ["gpt-5"]
    aliases = { clever = "gpt-5" }
  `);
});
after(async () => {
  await server?.stop();
  await mock?.stop();
});
beforeEach((context) => {
  key = server.createKey(context.name.replaceAll(/\W/g, " ").slice(0, 60), "--plan", "pro", "--allow-upstream", "mock");
  client = server.client(key);
});

const ask = (content, options) =>
  client.chat.completions.create({ model: "clever", messages: [{ role: "user", content }], ...options });

const settled = (requests) => server.settled(key, requests);

test("an answer passes through under an alias", async () => {
  const { data, response } = await ask("hello").withResponse();
  assert.equal(data.choices[0].message.content, "Hello from far away, wherever that is.");
  assert.equal(response.headers.get("x-allerac-served-by"), "upstream:mock");
  assert.equal(mock.getLastRequest().body.model, "gpt-5");
  assert.deepEqual(await settled(1), { requests: 1, prompt: 21, completion: 8 });
});

test("a stream passes through", async () => {
  const stream = await ask("hello", { stream: true, stream_options: { include_usage: true } });
  let text = "";
  let usage;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, "Hello from far away, wherever that is.");
  assert.deepEqual([usage.prompt_tokens, usage.completion_tokens], [21, 8]);
  assert.deepEqual(await settled(1), { requests: 1, prompt: 21, completion: 8 });
});

test("the usage of a stream is settled though the client did not ask for it", async () => {
  for await (const chunk of await ask("hello", { stream: true })) {
    assert.equal(chunk.usage ?? null, null);
    assert.equal(chunk.choices.length, 1);
  }
  assert.deepEqual(await settled(1), { requests: 1, prompt: 21, completion: 8 });
});

test("tools are called and their results go back", async () => {
  const asked = [{ role: "user", content: "How is the weather in Köln?" }];
  const first = await client.chat.completions.create({ model: "clever", messages: asked, tools: TOOLS });
  const [call] = first.choices[0].message.tool_calls;
  assert.equal(first.choices[0].finish_reason, "tool_calls");
  assert.deepEqual([call.function.name, JSON.parse(call.function.arguments)], ["get_weather", { city: "Köln" }]);
  const result = { role: "tool", tool_call_id: call.id, content: '{"sky":"rain"}' };
  const messages = [...asked, first.choices[0].message, result];
  const second = await client.chat.completions.create({ model: "clever", messages, tools: TOOLS });
  assert.equal(second.choices[0].message.content, "It rains in Köln.");
  assert.deepEqual(mock.getLastRequest().body.tools, TOOLS);
  assert.deepEqual(await settled(2), { requests: 2, prompt: 42, completion: 16 });
});

test("a streamed tool call arrives whole", async () => {
  const runner = client.chat.completions.stream({
    model: "clever", messages: [{ role: "user", content: "weather?" }], tools: TOOLS,
  });
  const message = await runner.finalMessage();
  assert.equal(message.tool_calls[0].function.arguments, CALL.arguments);
  await settled(1);
});

test("tokens pass on when they come, not when all are there", async () => {
  const began = Date.now();
  let first, last;
  for await (const chunk of await ask("slow", { stream: true })) {
    if (!chunk.choices[0]?.delta.content) continue;
    first ??= Date.now() - began;
    last = Date.now() - began;
  }
  assert.ok(last - first >= 200, `the first token came after ${first} ms, the last after ${last} ms`);
});

test("a stream that breaks off ends with an error, and what came is charged", async () => {
  let text = "";
  await assert.rejects(async () => {
    for await (const chunk of await ask("break off", { stream: true })) text += chunk.choices[0]?.delta.content ?? "";
  }, OpenAI.APIError);
  const usage = await settled(1);
  assert.ok(usage.prompt > 0);
  assert.match(text, /^one two/);
  assert.ok(usage.completion >= 2, `${usage.completion} tokens for ${JSON.stringify(text)}`);
});

test("a refusal passes on", async () => {
  await assert.rejects(ask("too many"), (error) => {
    assert.ok(error instanceof OpenAI.RateLimitError);
    assert.match(error.message, /slow down/);
    assert.notEqual(error.code, "insufficient_quota");
    return true;
  });
  assert.equal(server.usage(key).requests, 0);
});

for (const fault of ["explode", "malformed", "disconnect"]) {
  for (const stream of [false, true]) {
    test(`${fault}, ${stream ? "streamed" : "whole"}: a gateway's error without the other side's secrets`, async () => {
      await assert.rejects(
        async () => {
          for await (const _ of stream ? await ask(fault, { stream }) : [await ask(fault)]);
        },
        (error) => {
          assert.equal(error.status, 502);
          assert.equal(error.code, "upstream_error");
          assert.doesNotMatch(error.message, /stack trace/);
          return true;
        },
      );
      assert.equal(server.usage(key).completion, 0);
    });
  }
}

test("no key leaves the box unless it may", async () => {
  const seen = mock.getRequests().length;
  const home = server.client(server.createKey("homer", "--plan", "pro"));
  await assert.rejects(home.chat.completions.create({ model: "clever", messages: [{ role: "user", content: "hello" }] }),
    (error) => error instanceof OpenAI.PermissionDeniedError && error.code === "upstream_not_allowed");
  assert.equal(mock.getRequests().length, seen);
});

test("what the box has is computed here", async () => {
  const { response } = await client.chat.completions
    .create({ model: MODEL, messages: [{ role: "user", content: "hello" }], max_tokens: 2 })
    .withResponse();
  assert.equal(response.headers.get("x-allerac-served-by"), "local");
});
