"""Mutations of the `codeshell` command."""

from tests.mutations import Mutation

COMMANDS = "src/codeshell_hf/commands"

MUTATIONS = (
    Mutation(
        f"{COMMANDS}/init.py",
        "and not is_forced:",
        "and is_forced:",
        "tests/commands/test_init.py",
        "changed recipes are overwritten unasked",
    ),
    Mutation(
        f"{COMMANDS}/launch.py",
        'options.dry_run or "RANK" in os.environ',
        "options.dry_run",
        "tests/commands/test_launch.py",
        "each rank launches ranks",
    ),
    Mutation(
        f"{COMMANDS}/launch.py",
        "if ranks == 1 and options.accelerate is None:",
        "if options.accelerate is None:",
        "tests/commands/test_launch.py",
        "the file in pretrain's settings starts no ranks",
    ),
    Mutation(
        f"{COMMANDS}/launch.py",
        "lambda got, _frame: process.send_signal(got)",
        "lambda got, _frame: None",
        "tests/commands/test_launch.py",
        "a signal does not reach the ranks",
    ),
    Mutation(
        f"{COMMANDS}/run.py",
        "        if code != 0:\n",
        "        if code < 0:\n",
        "tests/commands/test_run.py",
        "a run goes on after a stage that failed",
    ),
    Mutation(
        f"{COMMANDS}/run.py",
        'and "sandbox" in stage.settings.model_fields:',
        "and stage.settings.model_fields:",
        "tests/commands/test_run.py",
        "the sandbox is chosen for stages that have none",
    ),
    Mutation(
        f"{COMMANDS}/complete.py",
        "sum(map(len, lines[: number - 1])) + column - 1",
        "sum(map(len, lines[: number - 1])) + column",
        "tests/commands/test_complete.py::test_places_are_counted_as_editors_count_them",
        "a place is one character too far",
    ),
    Mutation(
        f"{COMMANDS}/chat.py",
        "            if len(ids) <= room:\n",
        "            if True:\n",
        "tests/commands/test_chat.py::test_the_oldest_turns_are_dropped_and_the_system_text_stays",
        "old turns are never dropped",
    ),
)
