// Run by test_openai_node.py: `node suite.mjs BASE_URL`. Exits non-zero at the first failure.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0, timeout: 60000 });
const messages = [{ role: "user", content: "Tell me about the sea." }];
const base = { model: "tiny", messages, max_tokens: 12, temperature: 0 };
const tool = {
  type: "function",
  function: {
    name: "get_weather",
    strict: true,
    parameters: {
      type: "object",
      properties: { city: { type: "string", enum: ["Paris", "Oslo"] } },
      required: ["city"],
      additionalProperties: false,
    },
  },
};

const steps = {
  async "chat in one piece and streamed agree"() {
    const whole = await client.chat.completions.create(base);
    let text = "";
    let usage = null;
    const stream = await client.chat.completions.create({
      ...base,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
  },
  async "tools, streamed through the client's own accumulator"() {
    const runner = client.chat.completions.stream({
      ...base,
      max_tokens: 200,
      tools: [tool],
      tool_choice: "required",
      parallel_tool_calls: false,
    });
    const final = await runner.finalChatCompletion();
    const [call] = final.choices[0].message.tool_calls;
    assert.equal(call.function.name, "get_weather");
    assert.ok(["Paris", "Oslo"].includes(JSON.parse(call.function.arguments).city));
  },
  async "json_schema"() {
    const answer = await client.chat.completions.create({
      ...base,
      max_tokens: 900,
      response_format: {
        type: "json_schema",
        json_schema: {
          name: "n",
          strict: true,
          schema: {
            type: "object",
            properties: { n: { type: "integer", minimum: 0, maximum: 9 } },
            required: ["n"],
            additionalProperties: false,
          },
        },
      },
    });
    assert.ok(JSON.parse(answer.choices[0].message.content).n <= 9);
  },
  async "completions, streamed"() {
    let text = "";
    const stream = await client.completions.create({ model: "tiny", prompt: "The sea", max_tokens: 6, stream: true });
    for await (const chunk of stream) text += chunk.choices[0]?.text ?? "";
    assert.ok(text.length > 0);
  },
  async "embeddings: the client asks for base64 and decodes it"() {
    const answer = await client.embeddings.create({ model: "tiny", input: ["sea", "hill"] });
    const [first, second] = answer.data.map((item) => item.embedding);
    const norm = Math.hypot(...first);
    assert.ok(Math.abs(norm - 1) < 1e-3, `norm ${norm}`);
    assert.equal(first.length, second.length);
  },
  async "models"() {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    assert.ok(names.includes("tiny"));
    assert.equal((await client.models.retrieve("tiny")).id, "tiny");
  },
  async "errors have the client's own types"() {
    await assert.rejects(client.chat.completions.create({ ...base, model: "absent" }), OpenAI.NotFoundError);
    await assert.rejects(client.chat.completions.create({ ...base, temperature: -1 }), OpenAI.BadRequestError);
  },
  async "an aborted stream ends"() {
    const stream = await client.chat.completions.create({ ...base, max_tokens: 300, stream: true });
    for await (const _ of stream) {
      stream.controller.abort();
      break;
    }
  },
};

for (const [name, step] of Object.entries(steps)) {
  await step();
  console.log(`ok ${name}`);
}
