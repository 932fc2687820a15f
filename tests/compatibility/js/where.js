// Where the server under test is, from the environment that the runner makes.

export const URL_ = process.env.COMPATIBILITY_URL;
export const KEY = process.env.COMPATIBILITY_KEY;
export const MODEL = process.env.COMPATIBILITY_MODEL;
// A model behind the router that calls tools unasked, and one for embeddings; the other server has neither.
export const AGENT = process.env.COMPATIBILITY_AGENT;
export const EMBEDDING = process.env.COMPATIBILITY_EMBEDDING;

export const needsAgent = { skip: AGENT ? false : "there is no model that wants a tool" };
export const needsEmbedding = { skip: EMBEDDING ? false : "there is no model for embeddings" };

export const WEATHER = {
  type: "object",
  properties: { city: { type: "string", maxLength: 30 }, days: { type: "integer", maximum: 100 } },
  required: ["city", "days"],
  additionalProperties: false,
};
