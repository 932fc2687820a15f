// Vercel's AI SDK, with each of its providers that take an address.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany } from "ai";
import { works } from "./ai-sdk.js";
import { EMBEDDING, KEY, URL_, needsEmbedding } from "./where.js";

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

for (const [name, model] of Object.entries(providers)) works(name, model);

test("embeddings", needsEmbedding, async () => {
  const { embeddings } = await embedMany({ model: openai.embedding(EMBEDDING), values: ["a", "b"] });
  assert.deepEqual(embeddings.map((vector) => vector.length), [384, 384]);
});
