"""Makes preference pairs: from a model's answers, judged by tests or by a judge model, or from files.

codeshell preferences recipes/nano/preferences.yaml
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from codeshell_hf.align.settings import SampleSettings
from codeshell_hf.sandbox.settings import SandboxSettings
from codeshell_hf.settings import InputPath, PrecisionSettings
from codeshell_hf.stages.precision_choice import read_config, resolve_precision
from codeshell_hf.stages.stage import Stage, StageSettings, Work, main
from codeshell_hf.text.settings import JudgeSettings

if TYPE_CHECKING:
    from codeshell_hf.align.preferences import PairSet
    from codeshell_hf.precision import RequestedPrecision
    from codeshell_hf.sandbox import Sandbox
    from codeshell_hf.text.chat import Conversation
    from codeshell_hf.text.decode import Answer


class Settings(StageSettings, SandboxSettings, PrecisionSettings):
    """Settings of preference pairs."""

    model: InputPath | None = Field(default=None, description="folder of the model that answers; null only reads files")
    prompts: tuple[InputPath, ...] = Field(default=(), description="conversations; their last answer is not used")
    sample: SampleSettings | None = Field(default=None, description="how answers are sampled")
    judge: JudgeSettings | None = Field(default=None, description="for prompts without tests")
    files: tuple[InputPath, ...] = Field(default=(), description="pairs made elsewhere: prompt, chosen, rejected")
    max_pairs_per_prompt: int = Field(default=4, gt=0, description="limit for each prompt")
    seed: int = Field(default=0, ge=0, description="of sampling, and of which answers are paired")


def run(settings: Settings, work: Work) -> None:
    """Makes the pairs, and reports their number by source.

    Raises:
        SettingsError: If prompts or the judge's key are missing.
        DataError: If there is no pair.
    """
    from codeshell_hf.align.examples import read_all_conversations
    from codeshell_hf.align.pairing import pair_by_judge
    from codeshell_hf.align.preferences import PairSet, read_all_pairs, write_pairs
    from codeshell_hf.errors import DataError, SettingsError
    from codeshell_hf.text.judge import open_judge

    made = PairSet()
    judge = None if settings.judge is None else open_judge(settings.judge, work.folder)
    if settings.model is not None:
        if settings.sample is None or not settings.prompts:
            raise SettingsError("model is given, so prompts and sample are needed too; add them or set model: null")
        conversations = read_all_conversations(settings.prompts)
        answers = answer_prompts(
            settings.model, conversations, settings.sample, settings.precision, settings.seed, work
        )
        answered = list(zip(conversations, answers, strict=True))
        tested = [pair for pair in answered if pair[0].tests]
        others = [pair for pair in answered if not pair[0].tests]
        if tested:
            with settings.open_sandbox() as sandbox:
                made.extend(run_tests(tested, sandbox, settings.max_pairs_per_prompt, settings.seed, work))
        if others and judge is not None:
            made.extend(pair_by_judge(others, judge))
            work.counts["judge_requests"] = judge.budget.used
        elif others:
            made.dropped["prompts have neither tests nor a judge"] += len(others)
    made.extend(read_all_pairs(settings.files))

    reasons = ", ".join(f"{count} {reason}" for reason, count in made.dropped.items()) or "nothing was dropped"
    if not made.pairs:
        raise DataError(f"there is no pair ({reasons}); sample more, at a higher temperature, or name files of pairs")
    write_pairs(work.folder / "pairs.jsonl", made.pairs)
    by_source = Counter(pair.source for pair in made.pairs)
    work.counts = {
        "pairs": len(made.pairs), "by_source": dict(by_source), "dropped": dict(made.dropped), **work.counts
    }  # fmt: skip
    named = ", ".join(f"{count} by {name}" for name, count in by_source.items())
    work.report += [f"{len(made.pairs)} pairs: {named}", f"without a pair: {reasons}"]


def answer_prompts(
    model: Path,
    conversations: Sequence["Conversation"],
    sample: SampleSettings,
    precision: "RequestedPrecision",
    seed: int,
    work: Work,
) -> list[list["Answer"]]:
    """Samples several answers to every prompt."""
    import torch
    from tqdm.auto import tqdm

    from codeshell_hf.align.models import open_tokenizer
    from codeshell_hf.loading import load_model
    from codeshell_hf.text.decode import sample_answers

    resolved = resolve_precision(precision, lambda: read_config(model), work, record_folder=work.folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tqdm(total=len(conversations), desc="sample", unit="prompt", disable=None) as bar:
        answers = sample_answers(
            load_model(str(model), dtype=resolved.dtype).to(device),
            open_tokenizer(model),
            [conversation.prompt for conversation in conversations],
            seed=seed,
            on_progress=bar.update,
            **sample.model_dump(),
        )
    samples = [answer for group in answers for answer in group]
    work.counts["samples"] = len(samples)
    work.measures["finished_fraction"] = round(sum(answer.is_finished for answer in samples) / len(samples), 4)
    return answers


def run_tests(
    answered: Sequence[tuple["Conversation", Sequence["Answer"]]],
    sandbox: "Sandbox",
    max_pairs: int,
    seed: int,
    work: Work,
) -> "PairSet":
    """Runs every answer with its prompt's tests, and pairs answers that pass with ones that fail."""
    from tqdm.auto import tqdm

    from codeshell_hf.align.pairing import pair_by_tests
    from codeshell_hf.sandbox import Program
    from codeshell_hf.text.code import extract_code, list_wanted

    programs = [
        Program(extract_code(answer.text, list_wanted(prompt.tests or "")), prompt.tests or "")
        for prompt, group in answered
        for answer in group
    ]
    with tqdm(total=len(programs), desc="run tests", unit="program", disable=None) as bar:
        verdicts = sandbox.run(programs, on_progress=bar.update)
    pairs, passed = pair_by_tests(answered, [verdict.passed for verdict in verdicts], max_pairs=max_pairs, seed=seed)
    work.measures["pass_rate"] = round(passed / len(programs), 4)
    return pairs


STAGE = Stage(
    name="preferences",
    settings=Settings,
    run=run,
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
