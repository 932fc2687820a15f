// Programs that work as pasted.

const GREETING = "Say hello in five words.";

export function curl(origin: string, key: string, model: string): string {
  const body = JSON.stringify({ model, messages: [{ role: "user", content: GREETING }] });
  return [
    `curl ${origin}/v1/chat/completions`,
    `-H "Authorization: Bearer ${key}"`,
    `-H "Content-Type: application/json"`,
    `-d '${body}'`,
  ].join(" \\\n  ");
}

export function python(origin: string, key: string, model: string): string {
  return `from openai import OpenAI

client = OpenAI(base_url="${origin}/v1", api_key="${key}")
answer = client.chat.completions.create(
    model="${model}",
    messages=[{"role": "user", "content": "${GREETING}"}],
)
print(answer.choices[0].message.content)`;
}
