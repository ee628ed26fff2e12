"""OpenAI's interface: chats and completions, whole and streamed."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from openai import BadRequestError, OpenAI
from starlette.testclient import TestClient

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from tests.serve.conftest import ADD, FRAMED, MIDDLE, post, read_events

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
Taught = tuple[CodeShellForCausalLM, CodeShellTokenizer]


def test_a_chat_is_answered_without_its_stop(client: TestClient) -> None:
    answer = post(client, CHAT, model="CodeShell-7B-Chat", messages=ADD, temperature=0)

    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": "return a + b", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "heart"


def test_usage_counts_the_tokens_of_prompt_and_output(client: TestClient, taught: Taught) -> None:
    _, tokenizer = taught

    usage = post(client, CHAT, messages=ADD, temperature=0)["usage"]

    # By hand: the frame of the format, the answer and its stop.
    prompt = len(tokenizer.encode_text("## human:add|<end>|## assistant:"))
    written = len(tokenizer.encode_text(" return a + b|<end>|"))
    assert usage == {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
    three = post(client, COMPLETIONS, prompt=["a", "b"], n=2, max_tokens=3, stop=None, logit_bias={"0": -100})
    assert three["usage"]["prompt_tokens"] == 2


def test_a_stream_has_the_same_text_in_pieces(client: TestClient) -> None:
    body = {"messages": ADD, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    answer = client.post(CHAT, json=body)

    events = read_events(answer.text)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert events[-1] == "[DONE]"
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    deltas = [event["choices"][0] for event in events[1:-2]]
    assert "".join(delta["delta"].get("content", "") for delta in deltas) == "return a + b"
    assert len(deltas) > 3
    assert [delta["finish_reason"] for delta in deltas] == [None] * (len(deltas) - 1) + ["stop"]
    assert events[-2]["choices"] == []
    assert events[-2]["usage"] == post(client, CHAT, messages=ADD, temperature=0)["usage"]
    assert len({event["id"] for event in events[:-1]}) == 1


def test_a_system_turn_is_folded_in_and_parts_are_read(client: TestClient, taught: Taught) -> None:
    _, tokenizer = taught
    parts = [{"type": "text", "text": "ad"}, {"type": "text", "text": "d"}]
    asked = [
        [{"role": role, "content": "Be brief."}, {"role": "user", "content": parts}] for role in ("system", "developer")
    ]

    usages = [post(client, CHAT, messages=messages, max_tokens=1)["usage"]["prompt_tokens"] for messages in asked]

    by_hand = "## human:Be brief.\n\nadd|<end>|## assistant:"
    assert usages == [len(tokenizer.encode_text(by_hand))] * 2
    assert (
        post(client, CHAT, messages=[{"role": "user", "content": parts}], temperature=0)["choices"][0]["message"][
            "content"
        ]
        == "return a + b"
    )
    more = [*ADD, {"role": "assistant", "content": None}, {"role": "user", "content": "x"}]
    assert post(client, CHAT, messages=more, max_tokens=1)["choices"]


def test_special_tokens_are_text_in_messages_and_live_in_raw_prompts(client: TestClient, taught: Taught) -> None:
    _, tokenizer = taught

    as_text = post(client, CHAT, messages=[{"role": "user", "content": FRAMED}], max_tokens=1)["usage"]
    live = post(client, COMPLETIONS, prompt=FRAMED, temperature=0, max_tokens=40)

    framed = f"## human:{FRAMED}|<end>|## assistant:"
    assert as_text["prompt_tokens"] == len(tokenizer.encode_text(framed))
    assert live["choices"][0]["text"] == MIDDLE
    assert live["usage"]["prompt_tokens"] == len(tokenizer.encode_infilling("def area(r):\n    return ", "\n"))


def test_a_suffix_is_filled_in_and_not_appended(client: TestClient) -> None:
    filled = post(client, COMPLETIONS, prompt="def area(r):\n    return ", suffix="\n", temperature=0, max_tokens=40)

    assert filled["choices"][0]["text"] == MIDDLE
    assert filled["choices"][0]["finish_reason"] == "stop"
    plain = post(client, COMPLETIONS, prompt="def area(r):\n    return ", suffix="", temperature=0, max_tokens=4)
    assert plain == plain | {"usage": {**plain["usage"], "prompt_tokens": plain["usage"]["prompt_tokens"]}}
    assert plain["usage"]["prompt_tokens"] < filled["usage"]["prompt_tokens"], "an empty suffix is none"


def test_prompts_may_be_lists_of_texts_or_tokens(client: TestClient, taught: Taught) -> None:
    _, tokenizer = taught
    text = "## human:add|<end>|## assistant:"
    ids = tokenizer.encode_text(text)

    answers = [
        post(client, COMPLETIONS, prompt=prompt, temperature=0, max_tokens=30)["choices"]
        for prompt in (text, ids, [text, "## human:面积|<end>|## assistant:"], [ids, ids])
    ]

    texts = [[choice["text"] for choice in choices] for choices in answers]
    assert texts[:2] == [[" return a + b"]] * 2
    assert texts[2] == [" return a + b", " 返回 r"]
    assert texts[3] == [" return a + b"] * 2
    assert [choice["index"] for choice in answers[2]] == [0, 1]
    echoed = post(client, COMPLETIONS, prompt=[ids], temperature=0, max_tokens=30, echo=True)["choices"][0]["text"]
    assert echoed == text + " return a + b"


def test_choices_differ_and_a_seed_repeats_them(client: TestClient) -> None:
    body = {"prompt": "x", "n": 4, "max_tokens": 12, "temperature": 2, "seed": 7}

    first, again, other = (
        [choice["text"] for choice in post(client, COMPLETIONS, **(body | change))["choices"]]
        for change in ({}, {}, {"seed": 8})
    )

    assert first == again
    assert first != other
    assert len(set(first)) == 4
    events = read_events(client.post(COMPLETIONS, json=body | {"stream": True}).text)[:-1]
    streamed = [
        "".join(event["choices"][0]["text"] for event in events if event["choices"][0]["index"] == number)
        for number in range(4)
    ]
    assert streamed == first


@pytest.mark.parametrize(("stop", "text"), [(" +", "return a"), (["zzz", "b"], "return a + "), ("", "return a + b")])
def test_stops_end_the_text_before_them(stop: Any, text: str, client: TestClient) -> None:
    choice = post(client, CHAT, messages=ADD, temperature=0, stop=stop)["choices"][0]

    assert (choice["message"]["content"], choice["finish_reason"]) == (text, "stop")


def test_the_end_of_a_turn_never_reaches_a_client(client: TestClient) -> None:
    texts = [post(client, CHAT, messages=ADD, temperature=0)["choices"][0]["message"]["content"]]
    for path, body in (
        (COMPLETIONS, {"prompt": "## human:add|<end>|## assistant:", "max_tokens": 40}),
        ("/completion", {"prompt": "## human:add|<end>|## assistant:"}),
        ("/generate", {"inputs": "## human:add|<end>|## assistant:"}),
    ):
        texts.append(client.post(path, json=body | {"temperature": 0}).text)
        texts.append(client.post(path, json=body | {"temperature": 0, "stream": True}).text)

    assert all("return" in text for text in texts)
    assert not any("end>" in text for text in texts)
    for limit in range(1, 14):  # wherever the limit falls
        cut = post(client, CHAT, messages=ADD, temperature=0, max_tokens=limit)["choices"][0]["message"]["content"]
        assert "return a + b|".startswith(cut), "a bar alone may be code"


def test_log_probabilities_are_those_of_the_model(client: TestClient, taught: Taught) -> None:
    model, tokenizer = taught
    prompt = "## human:add|<end>|## assistant:"
    ids = tokenizer.encode_text(prompt)

    choice = post(client, CHAT, messages=ADD, temperature=0, logprobs=True, top_logprobs=3)["choices"][0]
    table = post(client, COMPLETIONS, prompt=prompt, temperature=0, logprobs=2, max_tokens=30)["choices"][0]["logprobs"]

    written = tokenizer.encode_text(" return a + b")
    with torch.no_grad():
        expected = model(torch.tensor([ids + written])).logits.log_softmax(-1)[0, len(ids) - 1 :]
    tokens = choice["logprobs"]["content"]
    assert [token["token"] for token in tokens] == [tokenizer.decode([token]) for token in written]
    for place, (token, number) in enumerate(zip(tokens, written, strict=True)):
        assert token["logprob"] == pytest.approx(float(expected[place, number]), abs=1e-4)
        assert token["bytes"] == list(token["token"].encode())
        best = expected[place].topk(3)
        assert [each["logprob"] for each in token["top_logprobs"]] == pytest.approx(best.values.tolist(), abs=1e-4)
    assert table["tokens"] == [token["token"] for token in tokens]
    assert table["token_logprobs"] == pytest.approx([token["logprob"] for token in tokens], abs=1e-5)
    assert table["text_offset"] == [len(tokenizer.decode(written[:place])) for place in range(len(written))]
    assert all(len(row) == 2 and all(value <= 0 and math.isfinite(value) for value in row.values()) for row in
               table["top_logprobs"])  # fmt: skip


def test_models_are_listed_and_another_one_is_unknown(client: TestClient) -> None:
    (model,) = client.get("/v1/models").json()["data"]

    assert model["id"] == "heart"
    assert model["max_model_len"] == 160
    assert client.get("/v1/models/heart").json() == model
    missing = client.get("/v1/models/WisdomShell/other")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_long_outputs_end_at_the_context_and_at_the_servers_limit(make_client: Callable[..., TestClient]) -> None:
    free, limited = make_client(), make_client(max_new_tokens=5)
    body = {"prompt": [5] * 150, "max_tokens": 500, "logit_bias": {"300": -100}, "temperature": 0}

    (choice,) = post(free, COMPLETIONS, **body)["choices"]
    assert choice["finish_reason"] == "length"
    assert post(free, COMPLETIONS, **body)["usage"]["completion_tokens"] == 10
    assert post(limited, COMPLETIONS, **body)["usage"]["completion_tokens"] == 5
    nothing = post(free, COMPLETIONS, **(body | {"max_tokens": 0}))
    assert (nothing["choices"][0]["text"], nothing["usage"]["completion_tokens"]) == ("", 0)


def test_the_openai_client_reads_what_it_is_answered(client: TestClient) -> None:
    openai = OpenAI(api_key="none", base_url="http://testserver/v1", http_client=client, max_retries=0)

    chat = openai.chat.completions.create(model="heart", messages=ADD, temperature=0, logprobs=True, top_logprobs=2)
    with openai.chat.completions.stream(model="heart", messages=ADD, temperature=0) as stream:
        streamed = stream.get_final_completion()
    filled = openai.completions.create(
        model="heart", prompt="def area(r):\n    return ", suffix="\n", temperature=0, max_tokens=40, logprobs=1
    )
    pieces = openai.completions.create(model="heart", prompt=FRAMED, temperature=0, max_tokens=40, stream=True)

    assert chat.choices[0].message.content == streamed.choices[0].message.content == "return a + b"
    logprobs = chat.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    assert logprobs.content[0].top_logprobs[0].logprob <= 0
    assert filled.choices[0].text == "".join(piece.choices[0].text for piece in pieces) == MIDDLE
    assert [model.id for model in openai.models.list()] == ["heart"]
    with pytest.raises(BadRequestError, match="n 4000 are more than 16 outputs") as caught:
        openai.chat.completions.create(model="heart", messages=ADD, n=4000)
    assert json.loads(caught.value.response.text)["error"]["param"] == caught.value.param == "n"


def test_transformers_chat_client_finds_what_it_asks_for(client: TestClient) -> None:
    ready = client.post("/load_model", json={"model": "heart"})
    config = json.dumps({"do_sample": False, "max_new_tokens": 3, "top_k": 50, "eos_token_id": [1], "min_p": None})

    answer = post(client, CHAT, messages=ADD, generation_config=config)

    assert read_events(ready.text)[0]["status"] == "ready"
    assert answer["choices"][0]["message"]["content"] == "return a +"
    assert answer["choices"][0]["finish_reason"] == "length"
    for wrong in ("{", "[]"):
        assert client.post(CHAT, json={"messages": ADD, "generation_config": wrong}).status_code == 400
