// Ollama's JavaScript client against the real server and the real models.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Ollama } from "ollama";
import { EMBEDDING_MODEL, MODEL, Server } from "./allerac.js";

const HELLO = [{ role: "user", content: "Say hello." }];
const FEW = { num_predict: 8, temperature: 0 };

let server, owner, member;

before(async () => {
  server = await Server.start("", { embeds: true });
  owner = client(await server.claim("olga"));
  member = client(server.createKey("mo"));
});
after(() => server?.stop());

const client = (key) => new Ollama({ host: server.url, headers: { authorization: `Bearer ${key}` } });

const names = (models) => models.map((model) => model.model).sort();

test("an answer, and the same in a stream", async () => {
  const whole = await member.chat({ model: MODEL, messages: HELLO, options: FEW });
  assert.ok(whole.message.content);
  assert.equal(whole.done, true);
  let text = "";
  for await (const part of await member.chat({ model: MODEL, messages: HELLO, options: FEW, stream: true })) {
    text += part.message.content;
  }
  assert.equal(text, whole.message.content);
  const generated = await member.generate({ model: `${MODEL}:latest`, prompt: "Say hello.", options: FEW });
  assert.equal(generated.response, text);
});

test("vectors", async () => {
  const { embeddings, prompt_eval_count } = await member.embed({ model: EMBEDDING_MODEL, input: ["one", "two"] });
  assert.deepEqual(embeddings.map((vector) => vector.length), [384, 384]);
  assert.equal(prompt_eval_count, 6);
  const { embedding } = await member.embeddings({ model: EMBEDDING_MODEL, prompt: "one" });
  assert.deepEqual(embedding, embeddings[0]);
});

test("what there is, and what is in memory", async () => {
  assert.deepEqual(names((await member.list()).models), [`${EMBEDDING_MODEL}:latest`, `${MODEL}:latest`]);
  assert.deepEqual((await member.show({ model: EMBEDDING_MODEL })).capabilities, ["embedding"]);
  assert.equal((await member.show({ model: MODEL })).model_info["llama.block_count"], 30);
  await member.generate({ model: MODEL, prompt: "", keep_alive: "10m" });
  const loaded = (await member.ps()).models.find((model) => model.model === `${MODEL}:latest`);
  const minutes = (new Date(loaded.expires_at) - Date.now()) / 60_000;
  assert.ok(minutes > 9 && minutes < 10.1, `${minutes} minutes`);
  await member.generate({ model: MODEL, prompt: "", keep_alive: 0 });
  assert.ok(!names((await member.ps()).models).includes(`${MODEL}:latest`));
});

test("models are fetched, copied and deleted by their owner", async () => {
  const said = [];
  for await (const part of await owner.pull({ model: MODEL, stream: true })) said.push(part.status);
  assert.deepEqual(said, ["pulling manifest", "writing manifest", "success"]);
  await owner.copy({ source: MODEL, destination: "mine:v1" });
  assert.ok(names((await member.list()).models).includes("mine:v1"));
  assert.ok((await member.chat({ model: "mine:v1", messages: HELLO, options: FEW })).message.content);
  await owner.delete({ model: "mine:v1" });
  assert.ok(!names((await member.list()).models).includes("mine:v1"));
  await assert.rejects(member.chat({ model: "mine:v1", messages: HELLO }), { status_code: 404 });
  await assert.rejects(owner.pull({ model: "nope" }), { status_code: 404 });
  await assert.rejects(member.pull({ model: MODEL }), { status_code: 403 });
  await assert.rejects(member.delete({ model: MODEL }), { status_code: 403 });
});
