"""What servers' errors mean: the forms that their documentation and their users' reports show, read by hand."""

import json
import time
from email.utils import formatdate

import pytest

from codeshell_hf.text.failures import AccessRefused, Failure, ServerUnavailable, explain, read_failure

LENGTH, MAYBE_LENGTH, REFUSAL, BUSY = "length", "maybe length", "refusal", "busy"
FORMS: dict[str, tuple[int | None, object, str]] = {
    "OpenAI's key": (401, {"error": {"message": "m", "code": "invalid_api_key"}}, REFUSAL),
    "OpenAI's quota": (429, {"error": {"message": "m", "type": "insufficient_quota", "code": None}}, REFUSAL),
    "OpenAI's rate": (429, {"error": {"message": "m", "type": "requests", "code": "rate_limit_exceeded"}}, BUSY),
    "OpenAI's context": (400, {"error": {"message": "m", "code": "context_length_exceeded"}}, LENGTH),
    "OpenAI's string": (400, {"error": {"message": "m", "code": "string_above_max_length"}}, LENGTH),
    "Azure's filter": (
        400, {"error": {"code": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, REFUSAL,
    ),
    "vLLM's context": (400, {"error": {"message": "m", "type": "BadRequestError", "code": 400}}, MAYBE_LENGTH),
    "llama.cpp's context": (400, {"error": {"code": 400, "type": "exceed_context_size_error"}}, LENGTH),
    "llama.cpp's loading": (503, {"error": {"code": 503, "type": "unavailable_error"}}, BUSY),
    "TGI's validation": (422, {"error": "inputs", "error_type": "validation"}, MAYBE_LENGTH),
    "TGI's overload": (429, {"error": "Model is overloaded", "error_type": "overloaded"}, BUSY),
    "FastAPI's list": (422, {"detail": [{"loc": ["body", "n"], "msg": "too long"}]}, MAYBE_LENGTH),
    "nginx's limit": (413, "<html>Request Entity Too Large</html>", MAYBE_LENGTH),
    "Cloudflare's time-out": (524, "<html>", BUSY),
    "Anthropic's overload": (529, {"type": "error", "error": {"type": "overloaded_error"}}, BUSY),
    "a missing page": (404, "not found", REFUSAL),
    "a gateway's 200 with a number": (None, {"error": {"message": "m", "code": 401}}, REFUSAL),
    "a gateway's 200 with a text": (None, {"error": {"message": "m", "status": "503"}}, BUSY),
    "a gateway's own number": (None, {"error": {"message": "m", "code": 1301}}, BUSY),
    "no server": (None, "connection refused", BUSY),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_errors_of_servers_mean_length_a_refusal_or_another_try(name: str) -> None:
    status, said, meaning = FORMS[name]
    text = said if isinstance(said, str) else json.dumps(said)

    failure = read_failure(text, status, {})

    found = {
        "is_about_length": failure.is_about_length,
        "may_be_about_length": failure.may_be_about_length,
        "is_refusal": failure.is_refusal,
    }
    assert found == {
        "is_about_length": meaning == LENGTH,
        "may_be_about_length": meaning in (LENGTH, MAYBE_LENGTH),
        "is_refusal": meaning != BUSY,
    }


def test_the_parameter_and_the_context_are_read_where_they_are_named() -> None:
    error = {"error": {"message": "m", "param": "max_tokens", "n_ctx": 2048}}

    failure = read_failure(json.dumps(error), 400, {})

    assert (failure.parameter, failure.context) == ("max_tokens", 2048)
    unnamed = read_failure(json.dumps({"error": {"param": 3, "n_ctx": "2048"}}), 400, {})
    assert (unnamed.parameter, unnamed.context) == (None, None)


def test_waits_are_read_as_seconds_milliseconds_or_a_date() -> None:
    now = time.time()
    waits = {
        header: read_failure("", 429, {name: value}).wait_s
        for header, name, value in (
            ("seconds", "retry-after", "120"),
            ("fraction", "retry-after", "1.5"),
            ("milliseconds", "retry-after-ms", "250"),
            ("date", "retry-after", formatdate(now + 90, usegmt=True)),
            ("past", "retry-after", formatdate(now - 90, usegmt=True)),
            ("negative", "retry-after", "-3"),
            ("nonsense", "retry-after", "soon"),
        )
    }

    assert waits == {
        "seconds": 120, "fraction": 1.5, "milliseconds": 0.25, "date": pytest.approx(90, abs=3), "past": 0,
        "negative": 0, "nonsense": None,
    }  # fmt: skip
    # Milliseconds are finer, and win where both are given.
    assert read_failure("", 429, {"retry-after": "1", "retry-after-ms": "250"}).wait_s == 0.25


def test_a_failure_that_stays_is_one_line_with_what_to_do() -> None:
    refused = explain(Failure("bad key", 401), model="m", place="http://x/v1", tries=3)
    down = explain(Failure("busy", 503), model="m", place="the Hub", tries=3)
    away = explain(Failure("later", 429, wait_s=601.0), model="m", place="the Hub", tries=3)

    assert type(refused) is AccessRefused
    assert str(refused) == "http://x/v1 refuses m: 401 bad key; check url, model, key and parameters"
    assert type(down) is type(away) is ServerUnavailable
    assert str(down) == (
        "m at the Hub did not answer after 3 tries (503 busy); earlier answers are kept: run again when it is up"
    )
    assert "asks to wait 601 s" in str(away)
    assert "wait" not in str(explain(Failure("later", 429, wait_s=600.0), model="m", place="the Hub", tries=3))


def test_pages_are_shortened_to_one_line() -> None:
    failure = read_failure("<html>\n  <body>\n" + "words " * 100, 502, {})

    assert failure.words.startswith("<html> <body> words words")
    assert len(failure.words) == 160
