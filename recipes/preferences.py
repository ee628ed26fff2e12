"""Makes preference pairs: from a model's answers, judged by tests or by a judge model, or from files.

codeshell preferences recipes/nano/preferences.yaml
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from codeshell_hf.align.settings import SampleSettings
from codeshell_hf.sandbox.settings import SandboxSettings
from codeshell_hf.settings import InputModel, PrecisionSettings
from codeshell_hf.stages.precision_choice import read_config, resolve_precision
from codeshell_hf.stages.stage import Stage, StageSettings, Work, is_first_rank, main, print_first
from codeshell_hf.text.settings import DataPlace, JudgeSettings, Reading, ServerSettings

if TYPE_CHECKING:
    from codeshell_hf.align.preferences import PairSet
    from codeshell_hf.precision import RequestedPrecision
    from codeshell_hf.sandbox import Sandbox
    from codeshell_hf.text.chat import Conversation
    from codeshell_hf.text.decode import Answer


class Settings(StageSettings, SandboxSettings, PrecisionSettings, Reading):
    """Settings of preference pairs."""

    model: InputModel | None = Field(default=None, description="of the model that answers; null only reads files")
    server: ServerSettings | None = Field(
        default=None, description="an OpenAI-compatible server that answers, instead of a model in a folder"
    )
    prompts: tuple[DataPlace, ...] = Field(default=(), description="conversations; their last answer is not used")
    sample: SampleSettings | None = Field(default=None, description="how answers are sampled")
    judge: JudgeSettings | None = Field(default=None, description="for prompts without tests")
    files: tuple[DataPlace, ...] = Field(default=(), description="pairs made elsewhere, in any form that is known")
    max_pairs_per_prompt: int = Field(default=4, gt=0, description="limit for each prompt")
    seed: int = Field(default=0, ge=0, description="of sampling, and of which answers are paired")

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.model is not None and self.server is not None:
            raise ValueError("model and server both answer; set one of them to null")
        if (self.model or self.server) and (self.sample is None or not self.prompts):
            raise ValueError(
                "a model or server is given, so prompts and sample are needed too; add them or set both to null"
            )
        return self


def run(settings: Settings, work: Work) -> None:
    """Makes the pairs, and reports their number by source; of several ranks, all sample and the first does the rest.

    Raises:
        SettingsError: If prompts or the judge's key are missing.
        DataError: If there is no pair.
    """
    from codeshell_hf.align.examples import read_all_prompts
    from codeshell_hf.align.pairing import pair_by_judge
    from codeshell_hf.align.preferences import PairSet, read_all_pairs, write_pairs
    from codeshell_hf.errors import DataError
    from codeshell_hf.text.judge import open_judge

    made = PairSet()
    judge = open_judge(settings.judge, work.folder) if settings.judge is not None and is_first_rank() else None
    if (source := settings.model or settings.server) and settings.sample is not None:
        prompts = read_all_prompts(settings.prompts, settings.get_reading())
        print_first("\n".join(prompts.findings.describe()))
        conversations = prompts.conversations
        kept = settings.output.with_name(f"{settings.output.name}.samples")
        answers = answer_prompts(source, conversations, settings.sample, settings.precision, settings.seed, work, kept)
        if not is_first_rank():
            return
        answered = list(zip(conversations, answers, strict=True))
        tested = [pair for pair in answered if pair[0].tests]
        others = [pair for pair in answered if not pair[0].tests]
        if tested:
            with settings.open_sandbox() as sandbox:
                made.extend(run_tests(tested, sandbox, settings.max_pairs_per_prompt, settings.seed, work))
        if others and judge is not None:
            made.extend(pair_by_judge(others, judge))
            work.counts["judge_requests"] = judge.budget.used
            work.counts["judge_unreadable"] = judge.unreadable
        elif others:
            made.dropped["prompts have neither tests nor a judge"] += len(others)
    made.extend(read_all_pairs(settings.files, settings.get_reading()))

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
    source: "Path | ServerSettings",
    conversations: Sequence["Conversation"],
    sample: SampleSettings,
    precision: "RequestedPrecision",
    seed: int,
    work: Work,
    kept: Path,
) -> list[list["Answer"]]:
    """Samples several answers to every prompt, kept in a folder as they come; only the first rank gets all."""
    from tqdm.auto import tqdm

    from codeshell_hf.align.models import open_tokenizer
    from codeshell_hf.align.samples import SampleStore, sample_from_model, sample_from_server
    from codeshell_hf.loading import load_model
    from codeshell_hf.manifest import hash_input
    from codeshell_hf.text.client import open_client
    from recipes.with_accelerate import join_ranks

    origin: list[object] = [sample.model_dump(exclude={"batch_size"}), seed]
    with join_ranks() as ranks:
        if isinstance(source, Path):
            dtype = resolve_precision(precision, lambda: read_config(source), work, record_folder=work.folder).dtype
            origin += [hash_input(source), str(dtype)]
        else:
            origin.append(source.model_dump(exclude={"token_variable"}))
        store = SampleStore(kept, origin, conversations, rank=ranks.rank)
        ranks.all_reduce_sum(0)  # no rank adds answers before all have seen which are missing
        missing = store.list_missing(ranks.rank, ranks.count)
        with tqdm(total=len(missing), desc="sample", unit="prompt", disable=None) as bar:

            def take(number: int, answers: list["Answer"]) -> None:
                store.add(number, answers)
                bar.update()

            if not isinstance(source, Path):
                client = open_client(source, "server")
                sample_from_server(client, conversations, missing, sample, seed=seed, on_answers=take)
            elif missing:
                model = load_model(str(source), dtype=dtype).to(ranks.device)
                tokenizer = open_tokenizer(source)
                sample_from_model(model, tokenizer, conversations, missing, sample, seed=seed, on_answers=take)
        ranks.all_reduce_sum(0)
        answers = store.read_all() if ranks.is_first else []
    samples = [answer for group in answers for answer in group]
    work.counts["samples"] = len(samples)
    work.measures["finished_fraction"] = round(sum(answer.is_finished for answer in samples) / max(1, len(samples)), 4)
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


STAGE = Stage(name="preferences", settings=Settings, run=run)

if __name__ == "__main__":
    sys.exit(main(STAGE))
