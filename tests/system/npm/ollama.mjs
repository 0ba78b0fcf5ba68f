// The ordinary calls of Ollama's client for Node: `node ollama.mjs PORT`; prints what came as JSON.
import { Ollama } from "ollama";

const client = new Ollama({ host: `http://127.0.0.1:${process.argv[2]}` });
const messages = [{ role: "user", content: "hi" }];
const found = {};

found.models = (await client.list()).models.map((model) => model.name);
found.version = (await client.version()).version;

const chat = await client.chat({ model: "alpha", messages });
found.chat = chat.message.content;
found.done = [chat.done, chat.done_reason, chat.eval_count > 0, chat.total_duration > 0];

found.stream = "";
for await (const part of await client.chat({ model: "beta", messages, stream: true })) {
  found.stream += part.message.content;
}

found.generated = (await client.generate({ model: "alpha", prompt: "x" })).response;

const tools = [
  {
    type: "function",
    function: { name: "look", description: "", parameters: { type: "object", properties: {} } },
  },
];
found.withTools = typeof (await client.chat({ model: "tools", messages, tools })).message.content;

const shown = await client.show({ model: "alpha" });
found.shown = [shown.details.format, shown.capabilities.includes("completion")];

found.embedding = (await client.embed({ model: "vectors", input: "hi" })).embeddings[0].length;

found.kept = (await client.generate({ model: "alpha", prompt: "", keep_alive: "10m" })).done_reason;
const running = async () => (await client.ps()).models.map((model) => model.name);
found.running = (await running()).includes("alpha");
found.unloaded = (
  await client.generate({ model: "alpha", prompt: "", keep_alive: 0 })
).done_reason;
for (let left = 100; left && (await running()).includes("alpha"); left--) {
  await new Promise((resolve) => setTimeout(resolve, 50));
}
found.gone = !(await running()).includes("alpha");

try {
  await client.chat({ model: "no-such-model", messages });
  found.unknown = "not refused";
} catch (error) {
  found.unknown = [error.name, error.status_code, error.message.includes("no-such-model")];
}

console.log(JSON.stringify(found));
