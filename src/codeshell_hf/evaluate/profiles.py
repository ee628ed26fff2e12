"""The protocol of each benchmark: prompt, stops and scoring, frozen under a versioned name that every result records.

Another prompt, stop, sampling, shot or limit is another profile. What a run may change, such as the number of samples,
is recorded in its result as a deviation.
"""

from dataclasses import replace

from ..errors import SettingsError
from ..extensions import is_reference, load_object
from . import problems as reading
from .evalplus import read_first_mbpp_plus, read_humaneval_plus, read_mbpp_plus
from .prompts import (
    program_alone,
    program_behind_line,
    program_behind_prompt,
    program_behind_whole,
    program_filled_in,
    program_in_answer,
    program_mbpp,
    prompt_fixing,
    prompt_function,
    prompt_infilling,
    prompt_mbpp,
    prompt_mbpp_shots,
    prompt_request,
    prompt_stripped,
    prompt_stripped_line,
    prompt_tests,
    prompt_whole,
)
from .protocol import Profile
from .todays_profiles import TODAY

__all__ = ["PROFILES", "Profile", "find_profile", "load_profile"]

HUMANEVAL_STOPS = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\n```")
MBPP_STOPS = ("\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/", "\n```")
RELEASED = "CodeShell's released evaluation: bigcode-evaluation-harness of October 2023, 40 samples at 0.2"
EVALPLUS = "EvalPlus 0.3 (Liu et al. 2023, arXiv:2305.01210): one greedy answer; its own inputs, and many more"
EVALPLUS_STOPS = ("<|endoftext|>", "<|endofmask|>", "</s>", "\nif __name__", "\ndef main(", "\nprint(")
HUMANEVAL = Profile(
    "humaneval-released-v1", RELEASED, reading.read_humaneval, prompt_stripped, "execution", HUMANEVAL_STOPS,
    0.2, 0.95, 40, (1, 10), 2048, 2048, program=program_behind_prompt,
)  # fmt: skip
MBPP = Profile(
    "mbpp-released-0shot-v1", RELEASED, reading.read_mbpp, prompt_mbpp, "execution", MBPP_STOPS,
    0.2, 0.95, 40, (1, 10), 2048, 2048, numbers=(11, 510), program=program_mbpp,
)  # fmt: skip
HUMANEVAL_PLUS = Profile(
    "humaneval-plus-v1", EVALPLUS, read_humaneval_plus, prompt_stripped_line, "execution",
    (*EVALPLUS_STOPS, "\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert "), max_new_tokens=768,
    timeout_s=300.0, program=program_behind_line, max_memory_bytes=4 << 30,
)  # fmt: skip
ESTABLISHED = (
        HUMANEVAL,
        replace(
            HUMANEVAL, name="humaneval-greedy-v1", temperature=0.0, top_p=1.0, samples=1, ks=(1,), max_tokens=None,
            max_new_tokens=512, source="the released prompts and stops, one greedy answer",
        ),
        replace(
            HUMANEVAL, name="humaneval-pass10-v1", temperature=0.8, samples=20, max_tokens=None, max_new_tokens=512,
            source="Chen et al. 2021, arXiv:2107.03374: pass@10 at 0.8; the released prompts and stops",
        ),
        replace(
            HUMANEVAL, name="humaneval-unstripped-v1", source="the released protocol with the prompt as it is",
            make_prompt=prompt_whole, program=program_behind_whole,
        ),
        replace(
            HUMANEVAL, name="humaneval-unstripped-greedy-v1", temperature=0.0, top_p=1.0, samples=1, ks=(1,),
            max_tokens=None, max_new_tokens=512, source="the prompt as it is, the released stops, one greedy answer",
            make_prompt=prompt_whole, program=program_behind_whole,
        ),
        HUMANEVAL_PLUS,
        replace(
            HUMANEVAL_PLUS, name="mbpp-plus-v1", read=read_mbpp_plus, stops=(*EVALPLUS_STOPS, '\n"""', "\nassert"),
        ),
        replace(
            HUMANEVAL_PLUS, name="mbpp-plus-first-v1", source=f"{EVALPLUS}; by the rules of MBPP+ v0.1.0 (2023)",
            read=read_first_mbpp_plus, stops=(*EVALPLUS_STOPS, '\n"""', "\nassert"),
        ),
        Profile(
            "humaneval-chat-v2", "ours: a chat request for the whole function", reading.read_humaneval,
            prompt_function, "execution", program=program_in_answer,
        ),
        Profile(
            "instructions-v2", "ours: conversations with tests; the code of the answer is run",
            reading.read_instructions, prompt_request, "execution", max_new_tokens=256, program=program_in_answer,
        ),
        MBPP,
        replace(
            MBPP, name="mbpp-greedy-0shot-v1", temperature=0.0, top_p=1.0, samples=1, ks=(1,), max_tokens=None,
            max_new_tokens=512, source="the released prompts and stops, one greedy answer",
        ),
        Profile(
            "mbpp-austin-3shot-v1", "Austin et al. 2021, arXiv:2108.07732; as in lm-evaluation-harness",
            reading.read_mbpp, prompt_mbpp_shots, "execution", ("[DONE]",), max_new_tokens=512,
            shots=(2, 3, 4), numbers=(11, 510), program=program_alone,
        ),
        Profile(
            "multipl-e-released-v1", RELEASED, reading.read_multipl_e, prompt_stripped, "execution", (),
            0.2, 0.95, 40, (1, 10), 2048, 2048, program=program_behind_prompt,
        ),
        Profile(
            "multipl-e-greedy-v1", "the released prompts and stops, one greedy answer",
            reading.read_multipl_e, prompt_stripped, "execution", (), program=program_behind_prompt,
        ),
        Profile(
            "infilling-santacoder-v1", "Ben Allal et al. 2023, arXiv:2301.03988: single lines, 25 tokens at 0.2",
            reading.read_infilling, prompt_infilling, "exact match", ("<filename>", "<|filename|>"),
            0.2, 0.95, max_new_tokens=25,
        ),
        Profile(
            "infilling-humaneval-v1", "Bavarian et al. 2022, arXiv:2207.14255: single lines, scored by tests",
            reading.read_humaneval_infilling, prompt_infilling, "execution", ("<filename>", "<|filename|>"),
            0.2, 0.95, max_new_tokens=64, program=program_filled_in,
        ),
        Profile(
            "fixing-v1", "ours: one fault in each reference solution, as in HumanEvalFix", reading.read_humaneval,
            prompt_fixing, "execution", HUMANEVAL_STOPS, max_new_tokens=512, program=program_behind_prompt,
            is_own_measure=True,
        ),
        Profile(
            "test-generation-v1", "ours: the right program has to pass a test, and every faulty one to fail it",
            reading.read_humaneval, prompt_tests, "tests", ("\ndef", "\nclass", "\n#", "\nif", "\nprint", "\n```"),
            max_new_tokens=256, is_own_measure=True,
        ),
        Profile(
            "line-completion-v1", "Lu et al. 2021, arXiv:2102.04664 (CodeXGLUE): the rest of a line",
            reading.read_completion, prompt_whole, "text", ("\n",), max_new_tokens=100,
        ),
        Profile(
            "block-completion-v1", "ours: the rest of a function", reading.read_completion, prompt_whole, "text",
            ("\ndef", "\nclass", "\nfunction", "\n}\n", "\n\n\n"), max_new_tokens=256,
        ),
        Profile(
            "held-out-lines-v1", "ours: single lines of held-out files", reading.read_infilling,
            prompt_infilling, "held-out lines", max_new_tokens=48,
        ),
        Profile(
            "secure-completion-v1", "ours: ruff's rules S (flake8-bandit) on the continuation of a program",
            reading.read_openings, prompt_whole, "security", ("\ndef ", "\nclass ", "\n```"), 0.2, 0.95, 5,
            max_new_tokens=256,
        ),
        Profile(
            "harmful-requests-v1", "ours: the share of harmful requests refused, and of similar harmless ones answered",
            reading.read_requests, prompt_request, "refusal", max_new_tokens=160,
        ),
        Profile(
            "memorisation-v1",
            "after Carlini et al. 2022, arXiv:2202.07646: the continuation of a training file",
            reading.read_completion, prompt_whole, "memorisation", max_new_tokens=100,
        ),
)  # fmt: skip
FORMS: dict[object, tuple[str, str]] = {
    reading.read_humaneval: ("HumanEval", "functions"),
    reading.read_mbpp: ("MBPP", "short programs"),
    reading.read_multipl_e: ("MultiPL-E", "functions in other languages"),
    reading.read_infilling: ("SantaCoder FIM", "single lines"),
    reading.read_humaneval_infilling: ("HumanEval-Infilling", "lines of functions"),
    read_humaneval_plus: ("HumanEval+", "functions with many inputs"),
    read_mbpp_plus: ("MBPP+", "short programs with many inputs"),
    read_first_mbpp_plus: ("MBPP+", "short programs with many inputs"),
}
PROFILES = {
    profile.name: replace(profile, form=FORMS.get(profile.read, profile.form)) for profile in (*ESTABLISHED, *TODAY)
}


def find_profile(name: str) -> Profile:
    """Finds a profile by name or reference; a `SettingsError` with the nearest name if it is unknown."""
    if is_reference(name):
        return load_profile(name)
    if name not in PROFILES:
        import difflib

        near = difflib.get_close_matches(name, PROFILES, 1)
        advice = f"did you mean {near[0]}?" if near else f"use one of {', '.join(PROFILES)}"
        raise SettingsError(f"unknown profile {name!r}; {advice}")
    return PROFILES[name]


def load_profile(reference: str) -> Profile:
    """Loads a user's profile; a `SettingsError` if it is not one, or has the name of a built-in one."""
    found = load_object(reference)
    if not isinstance(found, Profile):
        raise SettingsError(f"{reference} is {found!r}; make it a Profile")
    if found.name in PROFILES:
        raise SettingsError(f"{reference} has the name {found.name!r} of a built-in profile; give it another")
    return found
