"""llama.cpp's own tests of its server, asked of the engine and of Weir in front of it: what differs is listed here, with its reason.

    llama_cpp.py TESTS ENGINE MODEL PORT     TESTS: the folder tools/server/tests of llama.cpp; ENGINE: its server; MODEL: a GGUF file;
                                             PORT: where WEIR_ADDRESS expects the engine that each test starts

The tests start an engine of their own and know its models; here it has one that is on this machine, so what they say of a text fails on
both ways. What they ask is what counts: both answers to the same request are compared by status, fields, text, reason of the end and
usage. This file is also the pytest plugin that puts the requests on their way. Only OpenAI's paths go through Weir.
"""

import collections
import concurrent.futures
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

SUITES = ["test_chat_completion", "test_compat_oai_responses", "test_embedding", "test_completion"]
# Neither is about a request to OpenAI's paths, and both take long.
LEFT_OUT = "not parallel_slots and not completion_unified and not cancel_request"
SERVED = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
SHORT = ("/chat/completions", "/completions", "/responses", "/embeddings")

EXPECTED = {
    "error.code: number / str": "OpenAI's code is a word; llama.cpp sends the HTTP status",
    "error.param: only through Weir": "OpenAI's errors name the field",
    "error.n_ctx: lost": "llama.cpp's own; what Weir says has the number in its words",
    "error.n_prompt_tokens: lost": "the same",
    "event.timings: lost": "llama.cpp's own times come with the usage, which a stream has where it was asked for",
    '/v1/responses: 200 / 400 "return_progress is not known at /v1/responses: leave it out"': "llama.cpp's own field",
    '/v1/embeddings: 200 / 400 "input holds no text: send a string or a list"': "lists of token ids: which model's they are nobody can tell",
}


def main():
    tests, engine, model, port = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        ways = [("engine", int(port) + 1), ("weir", int(port))]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            runs = [pool.submit(run, tests, (engine, model), folder, way) for way in ways]
        direct, through = (run.result() for run in runs)
    differences = {}
    for request in sorted(direct.keys() | through.keys()):
        for difference in compare(direct.get(request), through.get(request)):
            differences.setdefault(difference, request)
    print(f"llama.cpp's tests: {len(direct)} requests, {len(differences)} kinds of difference")
    unknown = [f"  {difference}\n    first in {request[0]}" for difference, request in differences.items() if difference not in EXPECTED]
    gone = [f"  {difference}: not seen any more" for difference in EXPECTED if difference not in differences]
    if len(direct) < 60 or unknown or gone:
        sys.exit("\n".join(["clients: llama.cpp's tests:", *unknown, *gone]))


def run(tests, programs, folder, way):
    """The answers of one way, by test and number of the request."""
    (engine, model), (name, port) = programs, way
    answers = pathlib.Path(folder) / f"{name}.jsonl"
    environment = dict(os.environ, PYTHONPATH=str(pathlib.Path(__file__).parent), ANSWERS=str(answers), ENGINE=engine, MODEL=model,
                       PORT=str(port), THROUGH=name)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "llama_cpp", "-p", "no:cacheprovider", "-o", "addopts=", "-k", LEFT_OUT,
               *(f"unit/{suite}.py" for suite in SUITES)]
    done = subprocess.run(command, cwd=tests, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    # 1: some tests failed, which those about a text do.
    if done.returncode not in (0, 1):
        sys.exit(f"clients: llama.cpp's tests did not run:\n{done.stdout[-2000:]}")
    rows = map(json.loads, answers.read_text().splitlines())
    return {(row["test"], row["number"]): row for row in rows}


def compare(direct, through):
    """How two answers to one request differ."""
    if not direct or not through:
        # After an answer that differs a test may go another way, which is no difference of its own.
        return
    if direct["status"] != through["status"]:
        said = json.dumps(through["body"].get("error", {}).get("message")) if isinstance(through["body"], dict) else ""
        yield f"{direct['path']}: {direct['status']} / {through['status']} {said}"
        return
    if direct["stream"] and direct["status"] == 200:
        if text_of(direct["body"]) != text_of(through["body"]):
            yield f"{direct['path']}: text of a stream"
        pairs = zip(direct["body"], through["body"])
        yield from itertools.chain.from_iterable(of_shapes(one, other, "event") for one, other in pairs)
        return
    one, other = direct["body"], through["body"]
    if direct["status"] == 200:
        for field in ("usage", "choices"):
            if told(one, field) != told(other, field):
                yield f"{direct['path']}: {field}"
    yield from of_shapes(one, other, "")


def told(answer, field):
    """What must be the same: usage, and of each choice its text and why it ended."""
    value = answer.get(field)
    if field != "choices" or value is None:
        return value
    return [(choice.get("text"), choice.get("message"), choice["finish_reason"]) for choice in value]


def text_of(events):
    pieces = [choice.get("text") or choice.get("delta", {}).get("content") or "" for event in events for choice in event.get("choices", [])]
    return "".join(pieces)


def of_shapes(one, other, at):
    """Fields that one has and the other has not, or of another kind."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() | other.keys()):
            place = f"{at}.{name}".lstrip(".")
            if name not in one:
                yield f"{place}: only through Weir"
            elif name not in other:
                yield f"{place}: lost"
            else:
                yield from of_shapes(one[name], other[name], place)
    elif isinstance(one, list) and isinstance(other, list):
        for a, b in itertools.islice(zip(one, other), 1):
            yield from of_shapes(a, b, f"{at}[]")
    elif kind(one) != kind(other):
        yield f"{at}: {kind(one)} / {kind(other)}"


def kind(value):
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def pytest_configure():
    """Puts each engine on the model that is here, and each request on its way."""
    import utils

    server, through, asked = utils.ServerProcess, os.environ["THROUGH"] == "weir", collections.Counter()
    start, request, stream = server.start, server.make_request, server.make_stream_request
    utils.ServerPreset.load_all = staticmethod(lambda: None)
    answers = open(os.environ["ANSWERS"], "w")
    weir_port = os.environ["WEIR_ADDRESS"].rsplit(":", 1)[1]

    def started(self, *arguments, **named):
        self.server_path, self.n_threads, self.no_ui = os.environ["ENGINE"], 1, True
        self.model_file, self.model_hf_repo, self.model_hf_file, self.model_url = os.environ["MODEL"], None, None, None
        self.server_port = self.engine_port = int(os.environ["PORT"])
        start(self, *arguments, **named)
        if through:
            # Clients that the tests make themselves find it here.
            self.server_port = int(weir_port)

    def sent(self, path, data):
        """The request as both ways take it: with a model, at the path by its whole name."""
        path = f"/v1{path}" if path in SHORT else path
        if path in SERVED and isinstance(data, dict):
            data = dict(data, model="tests")
        return path, data

    def on_its_way(self, path):
        self.server_port = int(weir_port) if through and path in SERVED else self.engine_port

    def note(path, status, body):
        if path in SERVED:
            test = os.environ["PYTEST_CURRENT_TEST"].removesuffix(" (call)")
            asked[test] += 1
            row = {"test": test, "number": asked[test], "path": path, "stream": isinstance(body, list), "status": status, "body": body}
            answers.write(json.dumps(row) + "\n")
            answers.flush()

    def whole(self, method, path, data=None, *arguments, **named):
        path, data = sent(self, path, data)
        on_its_way(self, path)
        answer = request(self, method, path, data, *arguments, **named)
        note(path, answer.status_code, answer.body)
        return answer

    def streamed(self, method, path, data=None, *arguments, **named):
        path, data = sent(self, path, data)
        on_its_way(self, path)
        events = []
        try:
            for event in stream(self, method, path, data, *arguments, **named):
                events.append(event)
                yield event
        except utils.ServerError as error:
            note(path, error.code, error.body)
            raise
        note(path, 200, events)

    server.start, server.make_request, server.make_stream_request = started, whole, streamed


if __name__ == "__main__":
    main()
