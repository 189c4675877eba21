"""An unmodified openai-python client against a running gateway: chat, stream, errors, turns, auto and pinned models."""

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
