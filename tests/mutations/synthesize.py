"""Mutations of synthesis: seeds, replies, rules, what the sandbox says, budgets, and who counts as hard."""

from tests.mutations import Mutation

SEEDS, PARTS, TESTS, RULES, CHECKS, ASKING, ROUNDS, POOL, REQUESTS = (
    f"src/codeshell_hf/synthesize/{name}.py"
    for name in (
        *("seeds", "reply_parts", "plain_tests", "task_rules", "program_checks"),
        *("asking", "rounds", "task_pool", "requests"),
    )
)
FAULTS = "src/codeshell_hf/text/faults.py"


def _tests(name: str) -> str:
    return f"tests/synthesize/test_{name}.py"


MUTATIONS = (
    Mutation(
        SEEDS,
        'split="train", ',
        "",
        _tests("seeds"),
        "held-out documents are seeds",
    ),
    Mutation(
        SEEDS,
        "[: settings.per_document]",
        "",
        _tests("seeds"),
        "one long document gives all seeds",
    ),
    Mutation(
        SEEDS,
        " and not _MARKUP.search(snippet)",
        "",
        _tests("seeds"),
        "a seed speaks for the system in a chat template",
    ),
    Mutation(
        REQUESTS,
        "mark = make_mark(self.seed.text, self.written_in)",
        'mark = "<material>"',
        _tests("requests"),
        "a seed can end its own part of the request",
    ),
    Mutation(
        PARTS,
        "            if len(named) > len(PARTS):\n",
        "            if len(named) > 9:\n",
        _tests("reply_parts"),
        "parts of two tasks become one",
    ),
    Mutation(
        PARTS,
        "found = None if is_code[place] else style.fullmatch(line)",
        "found = style.fullmatch(line)",
        _tests("reply_parts"),
        "a comment in code is a heading",
    ),
    Mutation(
        TESTS,
        "        and node.name not in called\n",
        "        and node.name in called\n",
        _tests("plain_tests"),
        "test functions are not called",
    ),
    Mutation(
        RULES,
        'if (share >= _MIN_CHINESE) != (written_in == "zh"):',
        'if share < _MIN_CHINESE and written_in == "zh":',
        _tests("task_rules"),
        "Chinese passes for English",
    ),
    Mutation(
        RULES,
        "        if share > max_overlap:\n",
        "        if share > 1:\n",
        _tests("task_rules"),
        "a copy with another comment is no copy",
    ),
    Mutation(
        CHECKS,
        "    if not verdict.passed and not is_first:\n",
        "    if not verdict.passed and is_first:\n",
        _tests("program_checks"),
        "an answer that fails at times is called wrong",
    ),
    Mutation(
        CHECKS,
        "[not next(verdicts).passed for _ in found]",
        "[next(verdicts).passed for _ in found]",
        _tests("program_checks"),
        "tests that find nothing are strong",
    ),
    Mutation(
        CHECKS,
        "elif share < checks.min_killed:",
        "elif share < 0:",
        _tests("program_checks"),
        "weak tests are kept",
    ),
    Mutation(
        ASKING,
        "left = max(0, self._budget.max_requests - self.requests)",
        "left = self._budget.max_requests",
        _tests("asking"),
        "every run has the whole budget",
    ),
    Mutation(
        ASKING,
        "self.tokens >= self._budget.max_tokens",
        "self.tokens > 2 * self._budget.max_tokens",
        _tests("asking"),
        "twice the budget of tokens is spent",
    ),
    Mutation(
        ROUNDS,
        "next(verdicts).passed and reply.finish_reason not in CUT",
        "next(verdicts).passed",
        _tests("rounds"),
        "an answer that was cut is a right one",
    ),
    Mutation(
        POOL,
        "1.0 if task.pass_rate is None else task.pass_rate, -task.mutants",
        "1.0 if task.pass_rate is None else -task.pass_rate, -task.mutants",
        _tests("task_pool"),
        "easy tasks are the hard ones",
    ),
    Mutation(
        POOL,
        "for text in (task.problem, task.program, task.tests)",
        "for text in (task.problem, task.program)",
        _tests("task_pool"),
        "a benchmark's tests are trained on",
    ),
    Mutation(
        FAULTS,
        "less = ast.BinOp(node.args[stop], ast.Sub(), ast.Constant(1))",
        "less = ast.BinOp(node.args[stop], ast.Add(), ast.Constant(0))",
        "tests/text/test_faults.py",
        "a range that ends early is no fault",
    ),
)
