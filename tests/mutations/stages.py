"""Mutations of what runs stages."""

from tests.mutations import Mutation

STAGE = "src/codeshell_hf/stages/stage.py"
TESTS = "tests/stages/test_stage.py"
PRECISION = "src/codeshell_hf/stages/precision_choice.py"
PROCESS = "src/codeshell_hf/stages/process.py"
LOCK = "src/codeshell_hf/stages/output_lock.py"
LOCK_TESTS = "tests/stages/test_output_lock.py"

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
        "hash_values([stage.name, given, inputs, code])",
        "hash_values([stage.name, given, code])",
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
        'if f"{name}.".startswith(names)}',
        'if f"{name}.".startswith("")}',
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
        "        return error.exit_code\n    except ModuleNotFoundError",
        "        return 0\n    except ModuleNotFoundError",
        TESTS,
        "a stage that failed exits with 0",
    ),
    Mutation(
        STAGE,
        "return done is not None and done.fingerprint == fingerprint",
        "return done is not None or done.fingerprint == fingerprint",
        TESTS,
        "a stage with any output has nothing to do",
    ),
    Mutation(
        STAGE,
        "        print_plan(stage, settings)\n        else:",
        "        print_plan(stage, settings)\n        if True:",
        TESTS,
        "a dry run runs",
    ),
    Mutation(
        PRECISION,
        "        if recorded is None:\n",
        "        if True:\n",
        "tests/stages/test_precision_choice.py",
        "a run that goes on changes its precision",
    ),
    Mutation(
        PRECISION,
        'config = None if requested == "float32" else read_config()',
        "config = read_config()",
        "tests/stages/test_precision_choice.py",
        "float32 wants a model's configuration",
    ),
    Mutation(
        PRECISION,
        "pickle.loads(pickle.dumps(error))",
        "pickle.dumps(error)",
        "tests/stages/test_precision_choice.py",
        "an error that other ranks cannot read is sent to them",
    ),
    Mutation(
        PRECISION,
        'choose_precision("bfloat16", read_config(), device, trains=trains, advice=advice)',
        "pass",
        "tests/stages/test_precision_choice.py",
        "a run that goes on in a slow precision does not say so",
    ),
    Mutation(
        PROCESS,
        '"M_TRIM_THRESHOLD": (-1,',
        '"M_TRIM_THRESHOLD": (-3,',
        "tests/stages/test_process.py",
        "memory goes back to the kernel after each step",
    ),
    Mutation(
        PROCESS,
        "        return error.exit_code\n",
        "        return 1\n",
        "tests/stages/test_process.py",
        "a wrong call is taken for a failure",
    ),
    Mutation(
        LOCK,
        "        elif now - started >= wait_s:\n",
        "        elif True:\n",
        LOCK_TESTS,
        "a run does not wait for one that is ending",
    ),
    Mutation(
        LOCK,
        "holder.was_requeued_as(own) and silent_s >= SILENT_AFTER_S:",
        "holder.was_requeued_as(own):",
        LOCK_TESTS,
        "a job takes over from a run of its own that lives",
    ),
    Mutation(
        LOCK,
        "self.job == later.job and self.restarts < later.restarts",
        "self.job == later.job",
        LOCK_TESTS,
        "a task of a job takes over from another task of it",
    ),
    Mutation(
        LOCK,
        "                os._exit(RunFailed.exit_code)\n",
        "                return\n",
        LOCK_TESTS,
        "a run from which another has taken over goes on writing",
    ),
    Mutation(
        LOCK,
        "                    os.utime(record)\n",
        "                    pass\n",
        LOCK_TESTS,
        "a run that lives gives no sign of life",
    ),
)
