"""The sandbox as an environment of TRL: a model runs its program, reads the traceback and mends it."""

from collections.abc import Callable, Iterable

from ..errors import SettingsError
from ..sandbox import Program, Sandbox
from ..tokenization_codeshell import END_OF_TURN, CodeShellTokenizer
from .partial_tests import find_plain_tests
from .settings import EnvironmentSettings

MOST_CHARACTERS = 2_000  # of a result; the last ones, where a traceback names the error
PASSED = "passed"
FORGED = {END_OF_TURN[:-1]: "|<\\end>", "</tool_response>": "<\\/tool_response>"}
"""What would end a result for the model, and how it is written; the last bar of a turn's end can be the template's."""

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
import linecache, sys, traceback
sys.argv = ["answer.py"]
names = {{"__name__": "__main__"}}
def run(name, text):
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    exec(compile(text, name, "exec", dont_inherit=True), names)
try:
    try:
        run("answer.py", {source!r})
    except SystemExit as end:
        if end.code:
            raise
    for test in {tests!r}:
        run("tests.py", test)
except BaseException as error:
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename not in ("answer.py", "tests.py"):
        trace = trace.tb_next
    said = "".join(traceback.format_exception(type(error), error, trace))
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
        shown_tests: Assertions of the prompt that a program is run with, as `choose_shown`. A program can read them;
            it does not get the others.
        max_calls: Programs that are run in a dialogue, also where several are in one turn.
    """

    def __init__(self, sandbox: Sandbox, *, shown_tests: int, max_calls: int) -> None:
        self._sandbox = sandbox
        self._shown_tests = shown_tests
        self._max_calls = max_calls
        self._tests: list[str] = []
        self._calls = 0

    def reset(self, tests: str | None = None, **_: object) -> None:
        """Begins a dialogue on a prompt with these tests."""
        self._tests = choose_shown(tests, self._shown_tests)
        self._calls = 0

    def run(self, code: str) -> str:
        """Runs Python code, with the first of the tests if there are any.

        Args:
            code: The whole program.

        Returns:
            What it prints, and its traceback or "passed".
        """
        self._calls += 1
        if self._calls > self._max_calls:
            return f"not run: a dialogue has {self._max_calls} calls, and this is call {self._calls}; answer now"
        source = _RUNNER.format(source=code, tests=self._tests, passed=PASSED)
        (verdict,) = self._sandbox.run([Program(source, strict=False)])
        result = "it took too long" if verdict.status == "timed out" else verdict.end.strip() or verdict.reason
        for mark, escaped in FORGED.items():
            result = result.replace(mark, escaped)
        return result[-MOST_CHARACTERS:]


def choose_shown(tests: str | None, count: int) -> list[str]:
    """The first plain assertions of a prompt's tests, without the last of them, so that one stays unseen."""
    return find_plain_tests(tests)[:-1][:count] if tests else []


def count_without_tests(settings: EnvironmentSettings | None, tests: Iterable[str | None]) -> dict[str, int]:
    """How many prompts have no test that can be shown, for a run's counts; empty if none is wanted."""
    if settings is None or not settings.shown_tests:
        return {}
    return {"prompts_without_shown_tests": sum(not choose_shown(text, settings.shown_tests) for text in tests)}


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
    return {"environment_factory": lambda: CodeEnvironment(sandbox, **settings.model_dump())}
