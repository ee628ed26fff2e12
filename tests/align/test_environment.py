"""The sandbox as a tool: what a model reads of its program, and how its calls are found."""

import json
from collections.abc import Iterator

import pytest
from transformers.utils import get_json_schema

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.align.environment import MOST_CHARACTERS, RESPONSE_TEMPLATE, CodeEnvironment, offer_tools
from codeshell_hf.align.settings import EnvironmentSettings
from codeshell_hf.errors import SettingsError
from codeshell_hf.sandbox import Limits, Sandbox, open_sandbox
from tests.backends import BACKEND

TESTS = "assert f(1) == 2\nassert f(2) == 3"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox(BACKEND, Limits(timeout_s=5)) as opened:
        yield opened


def run(sandbox: Sandbox, code: str, *, shown_tests: int = 1, tests: str | None = TESTS) -> str:
    environment = CodeEnvironment(sandbox, shown_tests=shown_tests)
    environment.reset(prompt="ignored", tests=tests)
    return environment.run(code)


def test_a_failed_test_is_a_traceback_with_its_line(sandbox: Sandbox) -> None:
    result = run(sandbox, "def f(x):\n    return x")

    assert result.splitlines() == [
        "Traceback (most recent call last):",
        '  File "tests.py", line 1, in <module>',
        "    assert f(1) == 2",
        "AssertionError",
    ]


def test_an_error_names_the_line_of_the_program(sandbox: Sandbox) -> None:
    result = run(sandbox, "def f(x):\n    return y")

    assert '  File "answer.py", line 2, in f\n    return y' in result
    assert result.endswith("NameError: name 'y' is not defined")
    assert "SyntaxError" in run(sandbox, "def f(x) return x")


def test_only_the_shown_tests_are_run(sandbox: Sandbox) -> None:
    code = "def f(x):\n    print('called', x)\n    return 2"

    assert run(sandbox, code) == "called 1\npassed"
    assert run(sandbox, code, shown_tests=0) == "passed"
    assert run(sandbox, code, tests=None) == "passed"
    assert "assert f(2) == 3" in run(sandbox, code, shown_tests=2)


def test_tests_of_an_earlier_prompt_are_forgotten(sandbox: Sandbox) -> None:
    environment = CodeEnvironment(sandbox, shown_tests=1)
    environment.reset(tests="assert g()")
    environment.reset(tests=None)

    assert environment.run("x = 1") == "passed"


def test_a_program_that_ends_itself_or_prints_too_much_has_a_result(sandbox: Sandbox) -> None:
    assert "SystemExit" in run(sandbox, "raise SystemExit(3)")
    assert len(run(sandbox, "print('x' * 100_000)\n1 / 0")) <= MOST_CHARACTERS
    assert run(sandbox, "while True: pass") == "it took too long"


def test_calls_are_found_as_the_template_writes_them(tiny_tokenizer: CodeShellTokenizer) -> None:
    code = 'def f(x):\n    return "</tool>é" if x else 1'
    call = {"type": "function", "function": {"name": "run", "arguments": {"code": code}}}
    asked = [{"role": "user", "content": "q"}]
    turns = [*asked, {"role": "assistant", "content": "", "tool_calls": [call]}]
    tools = [get_json_schema(CodeEnvironment.run)]
    text = tiny_tokenizer.apply_chat_template(turns, tools=tools, tokenize=False)
    prefix = tiny_tokenizer.apply_chat_template(asked, tools=tools, tokenize=False, add_generation_prompt=True)

    parsed = tiny_tokenizer.parse_response(text.removeprefix(prefix), RESPONSE_TEMPLATE, prefix=prefix)

    assert parsed["tool_calls"] == [call]
    assert json.loads(json.dumps(tools))[0]["function"]["parameters"]["required"] == ["code"]


def test_an_answer_without_a_call_is_its_text(tiny_tokenizer: CodeShellTokenizer) -> None:
    parsed = tiny_tokenizer.parse_response(" x = 1|<end>|", RESPONSE_TEMPLATE, prefix="## human:q|<end>|## assistant:")

    assert parsed["content"].strip() == "x = 1"
    assert "tool_calls" not in parsed


def test_a_model_whose_template_writes_no_tools_is_refused_with_the_mend(
    sandbox: Sandbox, tiny_tokenizer: CodeShellTokenizer
) -> None:
    tiny_tokenizer.chat_template = "{{ messages[0]['content'] }}"

    with pytest.raises(SettingsError, match=r"writes no tools; delete its chat_template\.jinja"):
        offer_tools(EnvironmentSettings(), sandbox, tiny_tokenizer)

    assert offer_tools(None, None, tiny_tokenizer) == {}
