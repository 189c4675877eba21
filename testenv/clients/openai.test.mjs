// An unmodified openai-node client against a running gateway: chat, tools, completions, responses, errors, auto and pinned.
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

const tool = {
  name: "get_weather",
  description: "Weather of a city",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

for (const model of ["auto", "qwen2.5-coder-0.5b"]) {
  test(`tools and their results are taken by ${model}, whole and streamed`, async () => {
    const call = { id: "call_1", type: "function", function: { name: "get_weather", arguments: '{"city": "Paris"}' } };
    const messages = [
      { role: "user", content: "What is the weather in Paris?" },
      { role: "assistant", content: "", tool_calls: [call] },
      { role: "tool", tool_call_id: "call_1", content: "Rain, 12 degrees." },
    ];
    for (const turns of [messages.slice(0, 1), messages]) {
      const request = { model, messages: turns, tools: [{ type: "function", function: tool }], max_tokens: 48 };
      const whole = (await ask(request)).choices[0].message;
      assert.ok(whole.content || whole.tool_calls.length);
      const streamed = await client.chat.completions.stream({ ...request, temperature: 0 }).finalMessage();
      assert.ok(streamed.content || streamed.tool_calls.length);
    }
  });

  test(`a prompt is completed by ${model}, whole and streamed`, async () => {
    const request = { model, prompt: "1 2 3 4", max_tokens: 8, temperature: 0 };
    const whole = await client.completions.create(request);
    let text = "";
    for await (const chunk of await client.completions.create({ ...request, stream: true })) text += chunk.choices[0].text;
    assert.ok(whole.choices[0].text && text);
    // Of two requests for `auto` the router may give one to another model.
    if (model !== "auto") assert.equal(text, whole.choices[0].text);
  });

  test(`a response of ${model} and its stream say the same`, async () => {
    const request = { model, input: "Name a colour.", temperature: 0, max_output_tokens: 24 };
    const whole = await client.responses.create(request);
    assert.ok(whole.output_text);
    const kinds = [];
    let text = "";
    for await (const event of await client.responses.create({ ...request, stream: true })) {
      kinds.push(event.type);
      if (event.type === "response.output_text.delta") text += event.delta;
    }
    assert.ok(text);
    assert.equal(kinds[0], "response.created");
    assert.ok(["response.completed", "response.incomplete"].includes(kinds.at(-1)));
    const final = await client.responses.stream(request).finalResponse();
    assert.ok(final.output_text);
    if (model !== "auto") assert.deepEqual([text, final.output_text], [whole.output_text, whole.output_text]);
  });
}

test("what needs a store is a bad request that names the field", async () => {
  const asked = client.responses.create({ model: "auto", input: "hi", previous_response_id: "resp_1" });
  await assert.rejects(asked, (error) => error instanceof OpenAI.BadRequestError && error.param === "previous_response_id");
});

test("errors map to the client's own classes", async () => {
  await assert.rejects(ask({ model: "gpt-9" }), OpenAI.NotFoundError);
  await assert.rejects(ask({ messages: [{ role: "wizard", content: "hi" }] }), OpenAI.BadRequestError);
  const stranger = new OpenAI({ baseURL, apiKey: "sk-wrong", maxRetries: 0 });
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
});
