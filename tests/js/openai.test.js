// The official JavaScript client against the real server and the real model.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import OpenAI from "openai";
import { MODEL, Server } from "./allerac.js";

const HELLO = [{ role: "user", content: "List the months of the year." }];
const MONTHS =
  "The months of the year are: January, February, March, April, May, June, July, August, September, October, November, December.";

let server, key, client;

before(async () => {
  server = await Server.start();
  key = server.createKey("anna", "--name", "laptop");
  client = server.client(key);
});
after(() => server?.stop());

const chat = (options) =>
  client.chat.completions.create({ model: MODEL, messages: HELLO, max_tokens: 12, temperature: 0, ...options });

test("models are listed and found", async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.deepEqual(ids, [MODEL]);
  assert.equal((await client.models.retrieve(MODEL)).object, "model");
});

test("an answer", async () => {
  const { data, response } = await chat({ max_tokens: 64 }).withResponse();
  assert.equal(data.choices[0].message.content, MONTHS);
  assert.equal(data.choices[0].finish_reason, "stop");
  assert.equal(data.usage.total_tokens, data.usage.prompt_tokens + data.usage.completion_tokens);
  assert.equal(response.headers.get("x-allerac-served-by"), "local");
});

test("a stream, with usage at its end", async () => {
  const stream = await chat({ max_tokens: 64, stream: true, stream_options: { include_usage: true } });
  let text = "";
  let usage = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, MONTHS);
  assert.ok(usage.completion_tokens > 20);
});

test("the stream runner of the client", async () => {
  const runner = client.chat.completions.stream({ model: MODEL, messages: HELLO, temperature: 0, max_tokens: 64 });
  const pieces = [];
  runner.on("content", (piece) => pieces.push(piece));
  assert.equal(await runner.finalContent(), MONTHS);
  assert.equal(pieces.join(""), MONTHS);
});

test("a plain completion, streamed and not", async () => {
  const body = { model: MODEL, prompt: "1, 2, 3, 4, 5, 6, 7,", max_tokens: 9, temperature: 0 };
  const whole = await client.completions.create(body);
  assert.equal(whole.choices[0].text, " 8, 9, 10");
  let text = "";
  for await (const chunk of await client.completions.create({ ...body, stream: true })) text += chunk.choices[0].text;
  assert.equal(text, " 8, 9, 10");
});

test("log probabilities", async () => {
  const answer = await chat({ logprobs: true, top_logprobs: 2 });
  const tokens = answer.choices[0].logprobs.content;
  assert.equal(tokens.length, 12);
  assert.equal(tokens.map((token) => token.token).join(""), answer.choices[0].message.content);
  for (const token of tokens) assert.equal(token.top_logprobs[0].logprob, token.logprob);
});

test("several choices, a seed, a stop string and a bias", async () => {
  const several = await chat({ n: 2, temperature: 1.5, seed: 3 });
  assert.deepEqual(several.choices.map((choice) => choice.index), [0, 1]);
  const again = await chat({ n: 2, temperature: 1.5, seed: 3 });
  assert.deepEqual(again.choices, several.choices);
  const stopped = await chat({ stop: [" March"], max_tokens: 64 });
  assert.equal(stopped.choices[0].message.content, "The months of the year are: January, February,");
  assert.equal(stopped.choices[0].finish_reason, "stop");
  assert.equal((await chat({ max_tokens: 3, logit_bias: { 28: 100 } })).choices[0].message.content, ",,,");
});

test("errors are the client's own classes", async () => {
  await assert.rejects(server.client("sk-nobody").models.list(), OpenAI.AuthenticationError);
  await assert.rejects(chat({ model: "gpt-9" }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.deepEqual([error.code, error.param, error.type], ["model_not_found", "model", "invalid_request_error"]);
    return true;
  });
  await assert.rejects(chat({ temperature: 3 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, "temperature");
    return true;
  });
  const tools = [{ type: "custom", custom: { name: "f", format: { type: "xml" } } }];
  await assert.rejects(chat({ tools }), (error) => error.param === "tools[0].custom.format.type" && error.code === "invalid_value");
});

test("a request that is aborted is charged what was produced, and no more", async () => {
  const mine = server.createKey("abe");
  const stream = await server.client(mine).chat.completions.create({
    model: MODEL, messages: HELLO, max_tokens: 3000, logit_bias: { 0: -100, 2: -100 }, stream: true,
  });
  let chunks = 0;
  for await (const _ of stream) if (++chunks === 10) break;
  const deadline = Date.now() + 15_000;
  while (server.usage(mine).requests === 0) {
    assert.ok(Date.now() < deadline, "the request is not settled");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const { requests, completion } = server.usage(mine);
  assert.equal(requests, 1);
  assert.ok(completion >= 5 && completion < 200, `${completion} tokens`);
});

test("twelve at once", async () => {
  const answers = await Promise.all(Array.from({ length: 12 }, () => chat({ max_tokens: 64 })));
  assert.deepEqual(answers.map((answer) => answer.choices[0].message.content), Array(12).fill(MONTHS));
});

test("usage is what the answers said", async () => {
  const mine = server.createKey("ursula");
  const counted = { requests: 0, prompt: 0, completion: 0 };
  for (const max_tokens of [1, 5, 9]) {
    const { usage } = await server.client(mine).chat.completions.create({ model: MODEL, messages: HELLO, max_tokens });
    counted.requests += 1;
    counted.prompt += usage.prompt_tokens;
    counted.completion += usage.completion_tokens;
  }
  assert.deepEqual(await server.settled(mine, 3), counted);
});
