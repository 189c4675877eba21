// An unmodified openai-node client against a running gateway: chat, stream, errors, turns, auto and pinned models.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const baseURL = `${process.env.WEIR_ADDRESS}/v1`;
const apiKey = "sk-acme-0123456789abcdef0123456789abcdef";
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 120_000 });
const ask = (overrides) =>
  client.chat.completions.create({
    model: "smollm2-135m",
    max_tokens: 8,
    temperature: 0,
    messages: [{ role: "user", content: "Name a colour." }],
    ...overrides,
  });

test("a pinned model answers with usage", async () => {
  const answer = await ask({});
  assert.ok(answer.choices[0].message.content);
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
});

test("auto lets the router choose and says which", async () => {
  const { data, response } = await ask({ model: "auto" }).withResponse();
  assert.ok(["smollm2-135m", "qwen2.5-coder-0.5b"].includes(response.headers.get("x-weir-model")));
  assert.ok(data.choices[0].message.content);
});

for (const model of ["auto", "smollm2-135m"]) {
  test(`a stream of ${model} ends with one finish reason`, async () => {
    let text = "";
    const finishes = [];
    for await (const chunk of await ask({ model, stream: true, max_tokens: 40 })) {
      text += chunk.choices[0]?.delta?.content ?? "";
      if (chunk.choices[0]?.finish_reason) finishes.push(chunk.choices[0].finish_reason);
    }
    assert.ok(text);
    assert.equal(finishes.length, 1);
  });
}

test("later turns see earlier ones", async () => {
  const answer = await ask({
    model: "qwen2.5-coder-0.5b",
    max_tokens: 12,
    messages: [
      { role: "user", content: "My name is Ada." },
      { role: "assistant", content: "Hello Ada." },
      { role: "user", content: "What is my name? Answer with the name only." },
    ],
  });
  assert.match(answer.choices[0].message.content, /Ada/);
});

test("errors map to the client's own classes", async () => {
  await assert.rejects(ask({ model: "gpt-9" }), OpenAI.NotFoundError);
  await assert.rejects(ask({ messages: [{ role: "wizard", content: "hi" }] }), OpenAI.BadRequestError);
  const stranger = new OpenAI({ baseURL, apiKey: "sk-wrong", maxRetries: 0 });
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
});
