// The ordinary calls of OpenAI's client for Node: `node openai.mjs PORT`; prints what came as JSON.
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: `http://127.0.0.1:${process.argv[2]}/v1`,
  apiKey: "none",
  maxRetries: 0,
});
const messages = [{ role: "user", content: "hi" }];
const found = {};

const names = [];
for await (const model of await client.models.list()) names.push(model.id);
found.models = names;

const chat = await client.chat.completions.create({ model: "alpha", messages });
found.chat = chat.choices[0].message.content;
found.finish = chat.choices[0].finish_reason;
found.tokens = chat.usage.total_tokens;

found.stream = "";
const stream = await client.chat.completions.create({
  model: "beta",
  messages,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  found.stream += chunk.choices[0]?.delta?.content ?? "";
  if (chunk.usage) found.streamTokens = chunk.usage.total_tokens;
}

const completion = await client.completions.create({ model: "alpha", prompt: "x" });
found.completion = completion.choices[0].text;

const tools = [
  { type: "function", function: { name: "look", parameters: { type: "object", properties: {} } } },
];
const offered = await client.chat.completions.create({
  model: "tools",
  messages,
  tools,
  tool_choice: "none",
});
found.withTools = offered.choices[0].message.content;

async function refused(ask) {
  try {
    await ask();
    return "not refused";
  } catch (error) {
    return { kind: error.constructor.name, status: error.status, code: error.code };
  }
}
found.unknown = await refused(() =>
  client.chat.completions.create({ model: "no-such-model", messages }),
);
found.malformed = await refused(() =>
  client.chat.completions.create({ model: "alpha", messages: 5 }),
);
found.embedding = (
  await client.embeddings.create({ model: "vectors", input: "hi", encoding_format: "float" })
).data[0].embedding.length;

console.log(JSON.stringify(found));
