"""An unmodified openai-python client against a running gateway: chat, tools, completions, responses, errors, auto and pinned."""

import json
import os
import unittest

import openai

ADDRESS = os.environ["WEIR_ADDRESS"]
ACME = "sk-acme-0123456789abcdef0123456789abcdef"
GLOBEX = "sk-globex-0123456789abcdef0123456789abcdef"


def client(key=ACME):
    return openai.OpenAI(base_url=f"{ADDRESS}/v1", api_key=key, max_retries=0, timeout=120)


def ask(**overrides):
    request = {"model": "smollm2-135m", "max_tokens": 8, "temperature": 0,
               "messages": [{"role": "user", "content": "Name a colour."}]}
    return client().chat.completions.create(**(request | overrides))


class Chat(unittest.TestCase):
    def test_pinned_model_answers_with_usage(self):
        answer = ask()
        self.assertTrue(answer.choices[0].message.content)
        self.assertIn(answer.choices[0].finish_reason, ("stop", "length"))
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)
        self.assertLessEqual(answer.usage.completion_tokens, 8)

    def test_auto_lets_the_router_choose_and_says_which(self):
        raw = client().chat.completions.with_raw_response.create(
            model="auto", max_tokens=8, temperature=0, messages=[{"role": "user", "content": "Name a colour."}])
        self.assertIn(raw.headers["x-weir-model"], ("smollm2-135m", "qwen2.5-coder-0.5b"))
        self.assertTrue(raw.headers["x-weir-decision"])
        self.assertTrue(raw.parse().choices[0].message.content)

    def test_streams_carry_deltas_and_usage_exactly_when_asked(self):
        for model in ("auto", "smollm2-135m"):
            for include_usage in (False, True):
                options = {"stream_options": {"include_usage": True}} if include_usage else {}
                with self.subTest(model=model, include_usage=include_usage):
                    chunks = list(ask(model=model, stream=True, max_tokens=40, **options))
                    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
                    self.assertTrue(text)
                    finishes = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
                    self.assertEqual(len(finishes), 1)
                    self.assertEqual(sum(c.usage is not None for c in chunks), int(include_usage))
                    self.assertTrue(all(c.choices[0].logprobs is None for c in chunks if c.choices))

    def test_logprobs_come_when_asked_and_only_then(self):
        self.assertIsNone(ask(model="auto").choices[0].logprobs)
        self.assertTrue(ask(model="auto", logprobs=True).choices[0].logprobs.content)

    def test_later_turns_see_earlier_ones(self):
        history = [{"role": "user", "content": "My name is Ada."},
                   {"role": "assistant", "content": "Hello Ada."},
                   {"role": "user", "content": "What is my name? Answer with the name only."}]
        answer = ask(model="qwen2.5-coder-0.5b", messages=history, max_tokens=12)
        self.assertIn("Ada", answer.choices[0].message.content)

    def test_stop_and_seed_are_honoured(self):
        first = ask(seed=7, temperature=1.0, max_tokens=24).choices[0].message.content
        second = ask(seed=7, temperature=1.0, max_tokens=24).choices[0].message.content
        self.assertEqual(first, second)
        stopped = ask(model="qwen2.5-coder-0.5b", stop=["3"], max_tokens=32,
                      messages=[{"role": "user", "content": "Count: 1 2 3 4 5. Repeat that."}])
        self.assertNotIn("3", stopped.choices[0].message.content)


PINNED = "qwen2.5-coder-0.5b"
# Of two requests for `auto` the router may give one to another model.
MODELS = ("auto", PINNED)
TOOL = {"name": "get_weather", "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}


class Tools(unittest.TestCase):
    def test_tools_and_their_results_are_taken_whole_and_streamed(self):
        tools = [{"type": "function", "function": TOOL}]
        call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
        turns = [[{"role": "user", "content": "What is the weather in Paris?"}]]
        turns.append(turns[0] + [{"role": "assistant", "content": "", "tool_calls": [call]},
                                 {"role": "tool", "tool_call_id": "call_1", "content": "Rain, 12 degrees."}])
        for model in MODELS:
            for messages in turns:
                with self.subTest(model=model, turns=len(messages)):
                    choice = ask(model=model, messages=messages, tools=tools, max_tokens=48).choices[0]
                    self.assertTrue(choice.message.content or choice.message.tool_calls)
                    chunks = ask(model=model, messages=messages, tools=tools, max_tokens=48, stream=True)
                    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
                    pieces = [piece for choice in choices for piece in choice.delta.tool_calls or []]
                    self.assertTrue(pieces or any(choice.delta.content for choice in choices))
                    self.assertIn(choices[-1].finish_reason, ("stop", "length", "tool_calls"))
                    for index in {piece.index for piece in pieces}:
                        first = next(piece for piece in pieces if piece.index == index)
                        self.assertTrue(first.id and first.function.name)


class Formats(unittest.TestCase):
    def test_a_schema_is_followed(self):
        schema = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"],
                  "additionalProperties": False}
        chat = {"type": "json_schema", "json_schema": {"name": "c", "schema": schema, "strict": True}}
        text = {"format": {"type": "json_schema", "name": "c", "schema": schema, "strict": True}}
        for model in MODELS:
            with self.subTest(model=model):
                said = ask(model=model, max_tokens=40, response_format=chat).choices[0].message.content
                self.assertIn(json.loads(said)["colour"], ("red", "blue"))
                response = client().responses.create(model=model, input="Name a colour.", text=text, temperature=0,
                                                     max_output_tokens=40)
                self.assertIn(json.loads(response.output_text)["colour"], ("red", "blue"))


class Completions(unittest.TestCase):
    def test_a_prompt_is_completed_whole_and_streamed(self):
        for model in MODELS:
            with self.subTest(model=model):
                request = {"model": model, "prompt": "1 2 3 4", "max_tokens": 8, "temperature": 0}
                whole = client().completions.create(**request)
                self.assertTrue(whole.choices[0].text)
                self.assertLessEqual(whole.usage.completion_tokens, 8)
                chunks = list(client().completions.create(**request, stream=True))
                streamed = "".join(chunk.choices[0].text for chunk in chunks)
                self.assertTrue(streamed)
                if model == PINNED:
                    self.assertEqual(streamed, whole.choices[0].text)
                self.assertIn(chunks[-1].choices[0].finish_reason, ("stop", "length"))

    def test_what_is_not_served_names_its_field(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            client().completions.create(model="auto", prompt="1 2 3", echo=True)
        self.assertEqual(caught.exception.param, "echo")


class Responses(unittest.TestCase):
    def test_a_response_and_its_stream_say_the_same(self):
        for model in MODELS:
            with self.subTest(model=model):
                request = {"model": model, "input": "Name a colour.", "instructions": "Be brief.", "temperature": 0,
                           "max_output_tokens": 24, "metadata": {"from": "tests"}}
                whole = client().responses.create(**request)
                self.assertTrue(whole.output_text)
                self.assertEqual(whole.metadata, {"from": "tests"})
                self.assertEqual(whole.usage.total_tokens, whole.usage.input_tokens + whole.usage.output_tokens)
                with client().responses.stream(**request) as stream:
                    text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
                    final = stream.get_final_response()
                self.assertEqual(text, final.output_text)
                if model == PINNED:
                    self.assertEqual(text, whole.output_text)
                kinds = [event.type for event in client().responses.create(**request, stream=True)]
                self.assertEqual(kinds[0], "response.created")
                self.assertIn(kinds[-1], ("response.completed", "response.incomplete"))

    def test_a_function_is_called_and_its_result_taken_back(self):
        tools = [{"type": "function", "strict": False, **TOOL}]
        call = {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city": "Paris"}'}
        turns = [{"role": "user", "content": "What is the weather in Paris?"}, call,
                 {"type": "function_call_output", "call_id": "call_1", "output": "Rain, 12 degrees."}]
        for model in MODELS:
            for request in (turns[:1], turns):
                with self.subTest(model=model, items=len(request)):
                    response = client().responses.create(model=model, input=request, tools=tools, temperature=0,
                                                         max_output_tokens=48)
                    self.assertTrue(response.output)
                    self.assertLessEqual({item.type for item in response.output}, {"message", "function_call"})

    def test_what_needs_a_store_is_a_bad_request(self):
        for field, value in (("previous_response_id", "resp_1"), ("store", True)):
            with self.subTest(field=field), self.assertRaises(openai.BadRequestError) as caught:
                client().responses.create(model="auto", input="hi", **{field: value})
            self.assertEqual(caught.exception.param, field)


class Errors(unittest.TestCase):
    def test_unknown_model_is_not_found_and_names_the_known_ones(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            ask(model="gpt-9")
        self.assertIn("smollm2-135m", caught.exception.message)

    def test_wrong_key_is_an_authentication_error_without_the_key_in_it(self):
        wrong = "sk-wrong-key-value"
        with self.assertRaises(openai.AuthenticationError) as caught:
            client(wrong).models.list()
        self.assertNotIn(wrong, str(caught.exception))

    def test_unknown_role_names_the_field(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            ask(messages=[{"role": "wizard", "content": "hi"}])
        self.assertEqual(caught.exception.param, "messages[0].role")

    def test_prompt_beyond_the_context_is_refused_with_both_numbers(self):
        for model in ("auto", "smollm2-135m"):
            with self.subTest(model=model), self.assertRaises(openai.BadRequestError) as caught:
                ask(model=model, messages=[{"role": "user", "content": "word " * 6000}])
            self.assertIn("2048", caught.exception.message)

    def test_another_tenant_cannot_read_a_decision(self):
        raw = client().chat.completions.with_raw_response.create(
            model="auto", max_tokens=4, messages=[{"role": "user", "content": "Say hi."}])
        path = f"/decisions/{raw.headers['x-weir-decision']}"
        self.assertEqual(client().get(path, cast_to=object)["tenant"], "acme")
        with self.assertRaises(openai.NotFoundError):
            client(GLOBEX).get(path, cast_to=object)


class Models(unittest.TestCase):
    def test_models_are_listed_with_auto(self):
        names = {model.id for model in client().models.list()}
        self.assertLessEqual({"auto", "smollm2-135m", "qwen2.5-coder-0.5b"}, names)


if __name__ == "__main__":
    unittest.main(verbosity=2)
