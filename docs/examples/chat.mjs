// Asks the box, and prints the answer while it comes. Needs ALLERAC_URL (http://allerac.local) and ALLERAC_KEY.
//
// npm install openai

import OpenAI from "openai";

const { ALLERAC_URL, ALLERAC_KEY, ALLERAC_MODEL = "smollm2-135m-instruct" } = process.env;
const client = new OpenAI({ baseURL: `${ALLERAC_URL}/v1`, apiKey: ALLERAC_KEY });
const stream = await client.chat.completions.create({
  model: ALLERAC_MODEL,
  messages: [{ role: "user", content: "Name a color." }],
  max_tokens: 32,
  stream: true,
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta.content ?? "");
}
process.stdout.write("\n");
