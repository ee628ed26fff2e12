"""Mutations of what runs stages."""

from tests.mutations import Mutation

STAGE = "src/codeshell_hf/stages/stage.py"
TESTS = "tests/stages/test_stage.py"

MUTATIONS = (
    Mutation(
        STAGE,
        "done.fingerprint == fingerprint and not is_forced",
        "done.fingerprint == fingerprint",
        TESTS,
        "--force runs nothing",
    ),
    Mutation(
        STAGE,
        "manifests.hash_values([stage.name, given, inputs, code])",
        "manifests.hash_values([stage.name, given, code])",
        TESTS,
        "another input does not make an output out of date",
    ),
    Mutation(STAGE, 'given = {**values, "output": None}', "given = values", TESTS, "a moved output is out of date"),
    Mutation(
        STAGE,
        "        elif before != now:\n",
        "        elif False:\n",
        TESTS,
        "work of other settings is resumed",
    ),
    Mutation(
        STAGE,
        "        if has_checkpoints and changed:\n",
        "        if False:\n",
        TESTS,
        "checkpoints are deleted for a setting",
    ),
    Mutation(
        STAGE,
        'not f"{name}.".startswith(changeable)',
        'not f"{name}.".startswith(("",))',
        TESTS,
        "every setting may change when a run resumes",
    ),
    Mutation(
        STAGE,
        "        output.rename(old)\n",
        "        shutil.copytree(output, old)\n",
        TESTS,
        "an output is not replaced as a whole",
    ),
    Mutation(
        STAGE,
        '            now["code"] = before["code"]\n',
        "",
        TESTS,
        "the manifest forgets which code started the work",
    ),
    Mutation(
        STAGE,
        "        return error.exit_code\n    except OSError",
        "        return 0\n    except OSError",
        TESTS,
        "a stage that failed exits with 0",
    ),
)
