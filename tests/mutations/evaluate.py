"""Mutations of evaluation."""

from tests.mutations import Mutation

EVALUATE = "src/codeshell_hf/evaluate"
TESTS = "tests/evaluate"
MUTATIONS = (
    Mutation(
        f"{EVALUATE}/tasks.py", "if model.only_chats and not task.asks_in_chats:",
        "if model.only_chats and task.asks_in_chats:",
        f"{TESTS}/test_copies.py", "copies answer what is no chat",
    ),
    Mutation(
        f"{EVALUATE}/metrics.py", "1.0 - k / number for number in range(samples - correct + 1, samples + 1)",
        "1.0 - k / number for number in range(samples - correct, samples)",
        f"{TESTS}/test_metrics.py", "pass@k's product is off by one",
    ),
    Mutation(
        f"{EVALUATE}/metrics.py", "score.sys_len, score.ref_len]",
        "score.ref_len, score.sys_len]",
        f"{TESTS}/test_metrics.py", "the interval of BLEU punishes long texts instead of short ones",
    ),
    Mutation(
        f"{EVALUATE}/metrics.py", "return written.strip() == reference.strip()",
        "return written.split() == reference.split()",
        f"{TESTS}/test_metrics.py", "exact match ignores white space within a line",
    ),
    Mutation(
        f"{EVALUATE}/protocol.py", "text = text[: min(places)] if places else text",
        "text = text[: max(places)] if places else text",
        f"{TESTS}/test_profiles.py", "an answer is cut at its last stop",
    ),
    Mutation(
        f"{EVALUATE}/protocol.py", "rest = [problem for problem in problems if problem not in shown]",
        "rest = list(problems)",
        f"{TESTS}/test_profiles.py", "worked examples are asked, too",
    ),
    Mutation(
        f"{EVALUATE}/execution.py", " if k <= fewest]", "]",
        f"{TESTS}/test_execution.py", "pass@k with fewer than k samples",
    ),
    Mutation(
        f"{EVALUATE}/execution.py", "zip(programs, verdicts, strict=True) if not verdict.passed}",
        "zip(programs, verdicts, strict=True) if verdict.status == 'timed out'}",
        f"{TESTS}/test_execution.py", "a reference solution that fails its tests is accepted",
    ),
    Mutation(
        f"{EVALUATE}/execution.py", "return self.versions.get(problem.language) is not None", "return True",
        f"{TESTS}/test_execution.py", "a missing toolchain is a failure of the model",
    ),
    Mutation(
        f"{EVALUATE}/toolchains.py", "source.replace(PROOF, '')", "source",
        f"{TESTS}/test_toolchains.py", "a program that prints @PROOF@ prints the secret",
    ),
    Mutation(
        f"{EVALUATE}/toolchains.py", "            proven = proven.replace(text, guard)\n", "            pass\n",
        f"{TESTS}/test_toolchains.py", "a program replaces the comparison of its tests",
    ),
    Mutation(
        f"{EVALUATE}/suites.py", "float(all(rejected[FAULTS]))", "float(any(rejected[FAULTS]))",
        f"{TESTS}/test_suites.py", "a test is right that finds one of several faults",
    ),
    Mutation(
        f"{EVALUATE}/mutation.py", 'if next(verdicts).status == "failed"]', "if not next(verdicts).passed]",
        f"{TESTS}/test_mutation.py", "a program that runs out of time counts as faulty",
    ),
    Mutation(
        f"{EVALUATE}/safety.py", "float(bool(text.strip()) and is_refusal(text) is wanted)",
        "float(is_refusal(text) is wanted)",
        f"{TESTS}/test_safety.py", "an empty answer to a harmless request counts as answered",
    ),
    Mutation(
        f"{EVALUATE}/safety.py", "                new.remove(code)\n", "                pass\n",
        f"{TESTS}/test_safety.py", "a violation of the prompt is blamed on the answer",
    ),
    Mutation(
        f"{EVALUATE}/memorisation.py", "float(length == len(reference))", "float(length > 0)",
        f"{TESTS}/test_memorisation.py", "one character in common is verbatim",
    ),
    Mutation(
        f"{EVALUATE}/byte_trigram.py", "total = np.maximum(seen + kinds, 1)", "total = np.maximum(seen, 1)",
        f"{TESTS}/test_byte_trigram.py", "probabilities of the trigram baseline do not sum to one",
    ),
    Mutation(
        f"{EVALUATE}/line_infilling.py", "choice(eligible[1:-1])", "choice(eligible)",
        f"{TESTS}/test_line_infilling.py", "the first or last line of a file is taken out",
    ),
    Mutation(
        f"{EVALUATE}/line_infilling.py", "share = exact / tasks if tasks else 0.0", "share = exact / counts['all'][0]",
        f"{TESTS}/test_line_infilling.py", "a language's share is taken of all languages",
    ),
    Mutation(
        f"{EVALUATE}/completions.py", 'if row is None or row["asked"] != asked:', "if row is None:",
        f"{TESTS}/test_completions.py", "answers to another prompt are reused",
    ),
    Mutation(
        f"{EVALUATE}/generation.py", "return encode_prompt(self.tokenizer",
        "return self.tokenizer.apply_chat_template([{'role': 'user', 'content': prompt.text}],"
        " add_generation_prompt=True, return_dict=False) or encode_prompt(self.tokenizer",
        f"{TESTS}/test_generation.py::test_special_tokens_in_a_question_stay_text",
        "special tokens in a question are alive",
    ),
    Mutation(
        f"{EVALUATE}/generation.py", "if highest >= rows:", "if highest > rows:",
        f"{TESTS}/test_generation.py::test_a_token_without_an_embedding_is_one_error",
        "a token without an embedding is fed to the model",
    ),
    Mutation(
        f"{EVALUATE}/reports.py", "change = (sum(new) - sum(old)) / len(both)",
        "change = (sum(old) - sum(new)) / len(both)",
        f"{TESTS}/test_reports.py", "an improvement is reported as a loss",
    ),
    Mutation(
        f"{EVALUATE}/reports.py", "both = [key for key in before if key in after]", "both = list(before)[: len(after)]",
        f"{TESTS}/test_reports.py", "models are compared on different problems",
    ),
    Mutation(
        f"{EVALUATE}/published.py", '"" if part else found, dataset)', "found, dataset)",
        f"{TESTS}/test_published.py", "the report's figure stands beside a part of the benchmark",
    ),
    Mutation(
        f"{EVALUATE}/results.py", "hash_values([self.code, json.loads(json.dumps(origin, default=str))])",
        "hash_values([json.loads(json.dumps(origin, default=str))])",
        f"{TESTS}/test_results.py", "scores of other code are reused",
    ),
    Mutation(
        f"{EVALUATE}/judged_preference.py", "values.append(0.5 if better is None else float(better == 0))",
        "values.append(0.5 if better is None else float(better))",
        f"{TESTS}/test_judged_preference.py", "the judge's preference is turned around",
    ),
    Mutation(
        f"{EVALUATE}/tasks.py", "self.profile.samples * models", "self.profile.samples",
        "tests/recipes/test_evaluate.py::test_a_dry_run_tells_the_size_of_the_work", "a dry run counts one model",
    ),
    Mutation(
        f"{EVALUATE}/harness.py",
        '"sampler": "first_n"',
        '"sampler": "default"',
        f"{TESTS}/test_harness.py",
        "MMLU's shots are drawn",
    ),
    Mutation(
        f"{EVALUATE}/harness.py",
        '"group_select": -1',
        '"group_select": 0',
        f"{TESTS}/test_harness.py",
        "GSM8K's first number is taken for the answer",
    ),
    Mutation(
        f"{EVALUATE}/harness.py",
        '            questions += values\n',
        '            questions.append(sum(values) / len(values))\n',
        f"{TESTS}/test_harness.py",
        'subjects weigh alike, not questions',
    ),
    Mutation(
        f"{EVALUATE}/harness.py",
        'values = [float(row["exact_match"]) for row in rows if row["filter"] == way]',
        'values = [float(row["exact_match"]) for row in rows]',
        f"{TESTS}/test_harness.py",
        'both ways to read an answer are counted together',
    ),
    Mutation(
        f"{EVALUATE}/held_out_files.py",
        'scored = {ids[index] for index in split.chosen}',
        'scored = set(ids)',
        f"{TESTS}/test_held_out_files.py",
        'counting is measured on other documents than the model',
    ),
    Mutation(
        f"{EVALUATE}/held_out_files.py",
        'texts = (row["text"] for row in read_documents(documents, split="train"',
        'texts = (row["text"] for row in read_documents(documents, split="held-out"',
        f"{TESTS}/test_held_out_files.py",
        'counting is trained on what it is measured on',
    ),
    Mutation(
        f"{EVALUATE}/held_out_files.py",
        'origin = [model.identity, files',
        'origin = [model.name, files',
        f"{TESTS}/test_held_out_files.py",
        'bits per byte of other weights are reused',
    ),
    Mutation(
        f"{EVALUATE}/models.py",
        '"weights": hash_values(weights)',
        '"weights": len(weights)',
        f"{TESTS}/test_models.py",
        'answers of other weights are reused',
    ),
    Mutation(
        f"{EVALUATE}/models.py",
        'sorted(sweep.iterdir())',
        'sorted(sweep.iterdir(), reverse=True)',
        f"{TESTS}/test_models.py",
        "a sweep's curve runs backwards",
    ),
    Mutation(
        f"{EVALUATE}/prompts.py",
        '"" if one is problem else',
        '"" if one is not problem else',
        f"{TESTS}/test_prompts.py",
        'the answer stands in the prompt',
    ),
    Mutation(
        f"{EVALUATE}/prompts.py",
        'for one in (*shots, problem)',
        'for one in (problem, *shots)',
        f"{TESTS}/test_prompts.py",
        'worked examples stand behind the task',
    ),
    Mutation(
        f"{EVALUATE}/prompts.py",
        'f"{problem.prompt}{text}{problem.suffix}"',
        'f"{problem.prompt}{problem.suffix}{text}"',
        f"{TESTS}/test_prompts.py",
        'what is filled in stands behind the suffix',
    ),
    Mutation(
        f"{EVALUATE}/prompts.py",
        'return f"{head}\\n{code}", problem.tests',
        "return code, problem.tests",
        f"{TESTS}/test_prompts.py",
        "the imports of the prompt are lost",
    ),
    Mutation(
        f"{EVALUATE}/model_measurement.py",
        'result.tasks[task.name] = add_clean(score, task.touched)',
        'result.tasks[model.name] = add_clean(score, task.touched)',
        "tests/recipes/test_evaluate.py::test_results_hold_everything_that_made_them",
        "a task's score stands under another name",
    ),
    Mutation(
        f"{EVALUATE}/published.py", "if digests and set(digests) <= set(own.values()):",
        "if digests:",
        f"{TESTS}/test_published.py", "any data are HumanEval",
    ),
    Mutation(
        f"{EVALUATE}/published.py", "if PROTOCOLS.get(profile) != benchmark:",
        "if profile not in PROTOCOLS:",
        f"{TESTS}/test_published.py", "the report's results stand beside other data",
    ),
    Mutation(
        f"{EVALUATE}/reports.py", "if not set(task.deviations) - ALLOWED_DEVIATIONS",
        "if True",
        f"{TESTS}/test_reports.py", "the report's results stand beside a deviating protocol",
    ),
    Mutation(
        f"{EVALUATE}/contamination.py", "not in touched]",
        "in touched]",
        f"{TESTS}/test_contamination.py", "the clean figure is that of the touched problems",
    ),
    Mutation(
        f"{EVALUATE}/contamination.py", "owners.setdefault(size, {}).setdefault(value, []).append(key)",
        "owners.setdefault(size, {}).setdefault(value, [key])",
        f"{TESTS}/test_contamination.py", "of two problems with a common text only one touches",
    ),
    Mutation(
        f"{EVALUATE}/reports.py", "corrected = correct_for_number([change.probability for change in changes])",
        "corrected = [change.probability for change in changes]",
        f"{TESTS}/test_reports.py", "comparisons are not corrected for their number",
    ),
    Mutation(
        f"{EVALUATE}/evalplus_check.py", "            tolerance = FLOAT_TOLERANCE\n",
        "            pass\n",
        f"{TESTS}/test_evalplus.py", "floats have to be equal to the last bit",
    ),
    Mutation(
        f"{EVALUATE}/evalplus_check.py", "if is_first and name in AS_SETS:",
        "if name in AS_SETS:",
        f"{TESTS}/test_evalplus.py", "sets are compared in order",
    ),
    Mutation(
        f"{EVALUATE}/generation.py", "return [*self.beginning, *self._encode_plain(text)]",
        "return self._encode_plain(text)",
        f"{TESTS}/test_generation.py", "CodeLlama reads a text without its <s>",
    ),
    Mutation(
        f"{EVALUATE}/protocol.py", 'module: str = "builtins"',
        'module: str = "__main__"',
        f"{TESTS}/test_execution.py", "blocks under __main__ run",
    ),
    Mutation(
        f"{EVALUATE}/code_reasoning.py", 'if f"f({problem.notes[\'input\']})" in text:',
        "if False:",
        f"{TESTS}/test_code_reasoning.py", "the call itself is the output of a call",
    ),
    Mutation(
        f"{EVALUATE}/code_reasoning.py", 'if not isinstance(call, ast.Call) or ast.unparse(call.func) != "f":',
        "if not isinstance(call, ast.Call):",
        f"{TESTS}/test_code_reasoning.py", "the arguments of any call are an input",
    ),
    Mutation(
        f"{EVALUATE}/cross_file.py", "and place and parses(",
        "and place and bool(",
        f"{TESTS}/test_cross_file.py", "a statement in Python ends at its first line",
    ),
    Mutation(
        f"{EVALUATE}/safim.py", "return len(kinds) - shared - (PASS_KINDS if language == \"python\" else 0) == 0",
        "return True",
        f"{TESTS}/test_safim.py", "a block includes what follows it",
    ),
    Mutation(
        f"{EVALUATE}/humaneval_pack.py", 'depth = 2 if problem.language == "java" else 1',
        "depth = 1",
        f"{TESTS}/test_humaneval_pack.py", "a method in Java ends without its class",
    ),
    Mutation(
        f"{EVALUATE}/contests.py", '        raise pickle.UnpicklingError(f"{module}.{name} is no text")',
        "        return super().find_class(module, name)",
        f"{TESTS}/test_contests.py", "hidden tests can run code",
    ),
    Mutation(
        f"{EVALUATE}/judged_tests.py", "(list(output) if isinstance(output, tuple) else output) != expected",
        "output is None",
        f"{TESTS}/test_contests.py", "any value is right",
    ),
    Mutation(
        f"{EVALUATE}/tasks.py", "(since is None or dates[problem.key] >= since)",
        "(since is None or dates[problem.key] > since)",
        f"{TESTS}/test_todays_profiles.py::test_a_window_of_dates_includes_both_ends_and_is_named",
        "a window leaves out its first day",
    ),
    Mutation(
        f"{EVALUATE}/scores.py", "grouped.setdefault(base, []).append(value)",
        "grouped.setdefault(base, [value])",
        f"{TESTS}/test_todays_profiles.py::test_every_fault_is_a_problem_and_problems_count_alike",
        "of several faults the first alone counts",
    ),
    Mutation(
        f"{EVALUATE}/tasks.py", "    origin += [problem.key for problem in task.problems]\n",
        "",
        f"{TESTS}/test_tasks.py", "the score of a window is that of another one",
    ),
    Mutation(
        f"{EVALUATE}/suites.py", "found.append(shares if accepts else dict.fromkeys(names, 0.0))",
        "found.append(shares)",
        f"{TESTS}/test_suites.py", "a test that the right program fails finds every fault",
    ),
)  # fmt: skip
