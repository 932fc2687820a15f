// Vercel's AI SDK, with its two providers for Ollama's API.

import assert from "node:assert/strict";
import { test } from "node:test";
import { embedMany } from "ai";
import { createOllama as overClient } from "ai-sdk-ollama";
import { createOllama as direct } from "ollama-ai-provider-v2";
import { EMBEDDING, KEY, URL_, needsEmbedding } from "./where.js";
import { works } from "./ai-sdk.js";

const headers = { authorization: `Bearer ${KEY}` };
const providers = {
  "ollama-ai-provider-v2": direct({ baseURL: `${URL_}/api`, headers }),
  "ai-sdk-ollama": overClient({ baseURL: URL_, headers }),
};

for (const [name, provider] of Object.entries(providers)) {
  works(name, (model) => provider(model), { forces: name !== "ai-sdk-ollama" });

  test(`${name}: embeddings`, needsEmbedding, async () => {
    const { embeddings } = await embedMany({ model: provider.embedding(EMBEDDING), values: ["a", "b"] });
    assert.deepEqual(embeddings.map((vector) => vector.length), [384, 384]);
  });
}
