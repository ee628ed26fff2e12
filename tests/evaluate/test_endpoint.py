"""Answers of a model behind a server."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from codeshell_hf.errors import RunFailed, SettingsError
from codeshell_hf.evaluate.endpoint import EndpointGenerator
from codeshell_hf.evaluate.generation import Completion
from codeshell_hf.evaluate.prompts import Prompt
from codeshell_hf.text.client import Client
from tests.evaluate.test_generation import GREEDY, answer, resample
from tests.servers import QuietHandler, serve_on_loopback


@contextmanager
def serve(answers: list[tuple[int, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that gives its answers one after another, and its last one for good."""
    asked: list[dict[str, Any]] = []

    class Handler(QuietHandler):
        def answer(self, body: Any) -> None:
            asked.append({"path": self.path, "key": self.headers["Authorization"], **body})
            code, reply = answers.pop(0) if len(answers) > 1 else answers[0]
            self.reply(code, json.dumps(reply).encode())

    with serve_on_loopback(Handler) as address:
        yield f"{address}/v1", asked


def test_a_server_is_asked_for_all_samples_at_once() -> None:
    choices = [{"text": "a", "finish_reason": "stop"}, {"text": "b", "finish_reason": "length"}]
    question = resample(GREEDY, samples=2, stops=("\ndef",), temperature=0.2, top_p=0.95, seed=3)
    with serve([(503, {}), (200, {"choices": choices})]) as (url, asked):
        answers = answer(EndpointGenerator(Client(url, "m", "secret")), question)

    assert answers["a"] == [Completion("a", 0, "stop"), Completion("b", 0, "length")]
    assert len(asked) == 2
    sent = {"path": "/v1/completions", "n": 2, "stop": ["\ndef"], "temperature": 0.2, "max_tokens": 24, "seed": 3}
    assert asked[1].items() >= {**sent, "prompt": GREEDY.prompt.text, "key": "Bearer secret"}.items()


def test_a_server_that_gives_one_answer_is_asked_again_with_other_seeds() -> None:
    with serve([(200, {"choices": [{"text": "a", "finish_reason": "stop"}]})]) as (url, asked):
        answers = answer(EndpointGenerator(Client(url, "m")), resample(GREEDY, samples=3))

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
    with serve([(400, {"error": {"code": "context_length_exceeded"}})]) as (url, _):
        assert answer(EndpointGenerator(Client(url, "m")), GREEDY)["a"][0].end == "prompt too long"
    with pytest.raises(RunFailed, match=r"did not answer after 2 tries.*are kept"):
        answer(EndpointGenerator(Client("http://127.0.0.1:9/v1", "m", tries=2)), GREEDY)


def test_a_context_is_halved_until_it_fits_and_the_text_stays() -> None:
    too_long = {"error": {"code": "context_length_exceeded", "message": "too many tokens"}}
    fits = {"choices": [{"text": "1", "finish_reason": "stop"}]}
    context = "".join(f"{number}\n" for number in range(8))
    question = replace(GREEDY, prompt=Prompt("x = ", context=context))

    # Each prompt is asked twice, the second time for fewer new tokens.
    with serve([(400, too_long)] * 4 + [(200, fits)]) as (url, asked):
        answers = answer(EndpointGenerator(Client(url, "m")), question)

    prompts = dict.fromkeys(body["prompt"] for body in asked)
    assert list(prompts) == [f"{context}x = ", "0\n1\n2\n3\nx = ", "0\n1\nx = "]
    assert answers["a"][0].text == "1"


def test_a_system_message_stands_before_a_chat() -> None:
    reply = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
    question = replace(GREEDY, prompt=Prompt("hello", is_chat=True, system="be kind"))

    with serve([(200, reply)]) as (url, asked):
        answer(EndpointGenerator(Client(url, "m")), question)

    assert asked[0]["messages"] == [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]
