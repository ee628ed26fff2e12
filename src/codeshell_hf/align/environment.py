"""The sandbox as an environment of TRL: a model runs its program, reads the traceback and mends it."""

from collections.abc import Callable

from ..errors import SettingsError
from ..sandbox import Program, Sandbox
from ..tokenization_codeshell import END_OF_TURN, CodeShellTokenizer
from .partial_tests import split_tests
from .settings import EnvironmentSettings

MOST_CHARACTERS = 2_000  # of a result; the last ones, where a traceback names the error
PASSED = "passed"

RESPONSE_TEMPLATE: dict[str, object] = {
    "defaults": {"role": "assistant"},
    "start_anchor": "## assistant:",
    "fields": {
        "tool_calls": {
            "open": "<tool_call>",
            "close_pattern": r"</tool_call>\s*",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close": END_OF_TURN, "content": "text"},
    },
}
"""How transformers finds calls in an answer, as the chat template writes them; an attribute of the tokenizer."""

_RUNNER = """
import linecache, traceback
names = {{"__name__": "__main__"}}
try:
    for name, text in (("answer.py", {source!r}), ("tests.py", {tests!r})):
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        exec(compile(text, name, "exec"), names)
except BaseException as error:
    said = "".join(traceback.format_exception(type(error), error, error.__traceback__.tb_next))
    print("\\n".join(line for line in said.splitlines() if line.strip(" ^~") or not line))
else:
    print({passed!r})
"""
# Markers below a line are left out: not every Python writes them.


class CodeEnvironment:
    """One dialogue in which programs are run.

    TRL makes one for each answer, resets it with the prompt's row, and offers its method as a tool. The reward is not
    its own: the last answer is judged as without it, by all tests.

    Args:
        sandbox: Runs the programs, one at a time.
        shown_tests: Assertions of the prompt that a program is run with; the others stay unseen.
    """

    def __init__(self, sandbox: Sandbox, *, shown_tests: int) -> None:
        self._sandbox = sandbox
        self._shown_tests = shown_tests
        self._tests = ""

    def reset(self, tests: str | None = None, **_: object) -> None:
        """Begins a dialogue on a prompt with these tests."""
        self._tests = "\n".join(split_tests(tests)[: self._shown_tests]) if tests and self._shown_tests else ""

    def run(self, code: str) -> str:
        """Runs Python code, with the first of the tests if there are any.

        Args:
            code: The whole program.

        Returns:
            What it prints, and its traceback or "passed".
        """
        source = _RUNNER.format(source=code, tests=self._tests, passed=PASSED)
        (verdict,) = self._sandbox.run([Program(source, strict=False)])
        result = "it took too long" if verdict.status == "timed out" else verdict.output.strip() or verdict.reason
        return result[-MOST_CHARACTERS:]


def offer_tools(
    settings: EnvironmentSettings | None, sandbox: Sandbox | None, tokenizer: CodeShellTokenizer
) -> dict[str, Callable[[], CodeEnvironment]]:
    """TRL's argument for a trainer with the tool, whose calls the tokenizer then finds; empty without settings.

    Raises:
        SettingsError: If the model's chat template does not write tools.
    """
    if settings is None:
        return {}
    if "tool_calls" not in str(tokenizer.chat_template):
        raise SettingsError(
            f"environment is set, but the chat template of {tokenizer.name_or_path} writes no tools; delete its "
            "chat_template.jinja to use the one of this release"
        )
    if sandbox is None:
        raise ValueError("an environment needs a sandbox")
    tokenizer.response_template = RESPONSE_TEMPLATE
    return {"environment_factory": lambda: CodeEnvironment(sandbox, shown_tests=settings.shown_tests)}
