"""Protocols of benchmarks of 2023 and later, each by the rules of its own scorer."""

from dataclasses import replace

from .big_code_bench import (
    STOPS as BIGCODEBENCH_STOPS,
)
from .big_code_bench import (
    program_completed,
    program_script,
    prompt_script,
    read_bigcodebench,
    read_bigcodebench_requests,
)
from .code_reasoning import (
    program_input,
    program_output,
    prompt_input,
    prompt_output,
    prompt_output_steps,
    read_cruxeval,
    read_cruxeval_inputs,
    take_call,
    take_output,
    take_tagged_output,
)
from .contests import (
    program_contest,
    prompt_contest,
    prompt_contest_shot,
    read_livecodebench,
    take_last_block,
    take_whole,
)
from .cross_file import (
    prompt_next_line,
    prompt_statement,
    read_crosscodeeval,
    read_repobench,
    take_first_line,
    take_statement,
)
from .humaneval_pack import (
    program_fixed,
    prompt_fix_docs,
    prompt_fix_tests,
    read_humaneval_xl,
    read_humanevalfix,
    take_function,
)
from .problems import read_humaneval
from .prompts import program_behind_prompt, prompt_fixing, prompt_stripped, prompt_suite, prompt_whole
from .protocol import Profile
from .safim import program_gap, prompt_gap, read_safim, take_block, take_condition
from .safim import take_call as take_gap_call

CRUXEVAL = Profile(
    "cruxeval-output-v1", "Gu et al. 2024, arXiv:2401.03065: direct prompts, 10 samples at 0.2", read_cruxeval,
    prompt_output, "execution", ("[/ANSWER]",), 0.2, 0.95, 10, (1,), 1024, 1024, program=program_output,
    form=("CRUXEval", "outputs of functions"), finish=take_output,
)  # fmt: skip
LIVECODEBENCH = Profile(
    "livecodebench-v1", "Jain et al. 2024, arXiv:2403.07974: chat requests, 10 samples at 0.2", read_livecodebench,
    prompt_contest, "execution", ("###",), 0.2, 0.95, 10, (1, 5), 2000, timeout_s=60.0, program=program_contest,
    module="tmp_sol", max_memory_bytes=4 << 30, form=("LiveCodeBench", "problems of contests"), finish=take_last_block,
)  # fmt: skip
HUMANEVALFIX = Profile(
    "humanevalfix-tests-v1", "Muennighoff et al. 2023, arXiv:2308.07124: faults by tests, 20 samples at 0.2",
    read_humanevalfix, prompt_fix_tests, "execution", (), 0.2, 0.95, 20, (1, 10), 2048, 2048, timeout_s=10.0,
    program=program_fixed, form=("HumanEvalFix", "faulty functions"), finish=take_function,
)  # fmt: skip
SAFIM = Profile(
    "safim-block-v1", "Gong et al. 2024, arXiv:2403.04814: one sample at 0.2, 128 tokens", read_safim, prompt_gap,
    "execution", ("<filename>", "<|filename|>"), 0.2, 0.95, max_new_tokens=128, timeout_s=60.0, program=program_gap,
    module="__main__", max_memory_bytes=4 << 30, form=("SAFIM", "gaps in programs"), finish=take_block,
)  # fmt: skip
BIGCODEBENCH = Profile(
    "bigcodebench-complete-v1", "Zhuo et al. 2024, arXiv:2406.15877: one greedy answer, calibrated", read_bigcodebench,
    prompt_whole, "execution", BIGCODEBENCH_STOPS, max_new_tokens=1280, timeout_s=240.0, program=program_completed,
    module="__main__", max_memory_bytes=30 << 30, form=("BigCodeBench", "functions with packages"), is_strict=False,
    max_resident_bytes=4 << 30, max_processes=128, needs_packages=True,
)  # fmt: skip
TODAY = (
    BIGCODEBENCH,
    replace(
        BIGCODEBENCH, name="bigcodebench-instruct-v1", read=read_bigcodebench_requests, make_prompt=prompt_script,
        stops=(), program=program_script,
    ),
    CRUXEVAL,
    replace(
        CRUXEVAL, name="cruxeval-output-steps-v1", source=f"{CRUXEVAL.source}, step by step",
        make_prompt=prompt_output_steps, max_new_tokens=2048, max_tokens=2048, finish=take_tagged_output,
    ),
    replace(
        CRUXEVAL, name="cruxeval-input-v1", read=read_cruxeval_inputs, make_prompt=prompt_input,
        program=program_input, form=("CRUXEval", "inputs of functions"), finish=take_call,
    ),
    LIVECODEBENCH,
    replace(
        LIVECODEBENCH, name="livecodebench-base-v1", make_prompt=prompt_contest_shot, finish=take_whole,
        source="Jain et al. 2024 for models without a chat template; the worked example is ours",
    ),
    HUMANEVALFIX,
    replace(
        HUMANEVALFIX, name="humanevalfix-docs-v1", source=HUMANEVALFIX.source.replace("by tests", "by documentation"),
        make_prompt=prompt_fix_docs,
    ),
    Profile(
        "humaneval-xl-v1", "Peng et al. 2024, arXiv:2402.16694: one greedy answer; the cut is HumanEvalPack's",
        read_humaneval_xl, prompt_stripped, "execution", (), max_new_tokens=512, timeout_s=10.0,
        program=program_fixed, form=("HumanEval-XL", "functions by language"), finish=take_function,
    ),
    SAFIM,
    replace(SAFIM, name="safim-control-v1", finish=take_condition),
    replace(SAFIM, name="safim-api-v1", measure="syntax match", program=None, finish=take_gap_call),
    Profile(
        "repobench-v1", "Liu et al. 2023, arXiv:2306.03091 (v1.1): one sample at 0.2, 128 tokens", read_repobench,
        prompt_next_line, "next line", (), 0.2, 0.95, max_new_tokens=128, form=("RepoBench", "next lines"),
        finish=take_first_line,
    ),
    Profile(
        "crosscodeeval-v1", "Ding et al. 2023, arXiv:2310.11248: one sample at 0.2, 50 tokens", read_crosscodeeval,
        prompt_statement, "statement", (), 0.2, 0.95, max_new_tokens=50, form=("CrossCodeEval", "statements"),
        finish=take_statement,
    ),
    Profile(
        "fixing-v2", "ours: up to five faults in each reference solution, each a problem", read_humaneval,
        prompt_fixing, "execution", ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\n```"),
        max_new_tokens=512, program=program_behind_prompt, is_own_measure=True, faults=5,
    ),
    Profile(
        "test-generation-v2", "ours: a whole test, by the faults that it finds and the lines that it reaches",
        read_humaneval, prompt_suite, "suites", ("\ndef", "\nclass", "\n#", "\nif", "\nprint", "\n```"),
        max_new_tokens=512, is_own_measure=True,
    ),
)  # fmt: skip
