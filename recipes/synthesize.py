"""Makes instruction data from curated code: problems with answers and tests, kept if the tests hold and are strong.

codeshell synthesize recipes/nano-full/synthesize.yaml
"""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from codeshell_hf.curate.settings import Benchmark, NearDuplicates
from codeshell_hf.sandbox.settings import SandboxSettings
from codeshell_hf.settings import InputModel, InputPath, PrecisionSettings
from codeshell_hf.stages.precision_choice import read_config, resolve_precision
from codeshell_hf.stages.stage import Stage, StageSettings, Work, main
from codeshell_hf.synthesize.settings import AnswersAs, AskSettings, BudgetSettings, CheckSettings, SeedSettings
from codeshell_hf.text.settings import ServerSettings

if TYPE_CHECKING:
    from codeshell_hf.synthesize.asking import ModelRequest, ReplyStore
    from codeshell_hf.synthesize.rounds import Asker
    from codeshell_hf.synthesize.task_pool import TaskPool
    from codeshell_hf.text.replies import Reply


class Settings(StageSettings, SandboxSettings, PrecisionSettings):
    """Settings of synthesis."""

    documents: InputPath | None = Field(default=None, description="output of curate, for seeds; null asks nobody")
    server: ServerSettings | None = Field(default=None, description="an OpenAI-compatible server that is asked")
    model: InputModel | None = Field(default=None, description="folder of a chat model that is asked instead")
    replies: tuple[InputPath, ...] = Field(default=(), description="replies recorded before, in JSON Lines")
    seeds: SeedSettings = Field(default_factory=SeedSettings, description="which snippets are drawn")
    ask: AskSettings = Field(default_factory=AskSettings, description="what is asked")
    budget: BudgetSettings = Field(default_factory=BudgetSettings, description="what may be spent")
    checks: CheckSettings = Field(default_factory=CheckSettings, description="what a task has to pass")
    benchmarks: tuple[Benchmark, ...] = Field(default=(), description="what must not be trained on")
    min_benchmark_overlap: float = Field(
        default=0.5, gt=0, le=1, description="share of six-word sequences of one text of a benchmark's task"
    )
    near_duplicates: NearDuplicates | None = Field(default_factory=NearDuplicates, description="null keeps them")
    answers_as: AnswersAs = Field(
        default="given", description="answers as given, as one fenced block, or as bare code, without explanations"
    )
    max_pairs_per_problem: int = Field(default=2, gt=0, description="pairs of a right and a wrong answer")
    hard_fraction: float = Field(default=0.5, gt=0, le=1, description="share of the tasks that hard.jsonl has")
    seed: int = Field(default=0, ge=0, description="of the seeds, and of sampling")

    @model_validator(mode="after")
    def _check_sources(self) -> "Settings":
        if self.server is not None and self.model is not None:
            raise ValueError("server and model are both asked; set one of them to null")
        has_model = self.server is not None or self.model is not None
        if (self.documents is not None) != has_model:
            raise ValueError("documents need a server or a model that is asked, and the other way; set both or neither")
        if not has_model and not self.replies:
            raise ValueError("there is nothing to ask and nothing to read; set documents and server, or replies")
        return self


def run(settings: Settings, work: Work) -> None:
    """Asks, checks, and writes what the stages of alignment read; a `DataError` if no task is left."""
    from codeshell_hf.errors import DataError
    from codeshell_hf.synthesize.asking import ReplyStore
    from codeshell_hf.synthesize.recorded import read_recorded
    from codeshell_hf.synthesize.requests import deal
    from codeshell_hf.synthesize.rounds import ask_for_tasks
    from codeshell_hf.synthesize.seeds import draw_seeds
    from codeshell_hf.synthesize.task_pool import TaskPool

    store = ReplyStore(settings.output.with_name(f"{settings.output.name}.replies"), settings.budget)
    asked = [one for path in settings.replies for one in read_recorded(path)]
    recorded = {one.id: one.answers for one in asked}
    asker = open_asker(settings, store, work)
    if asker is not None and settings.documents is not None:
        seeds, work.counts["documents"] = draw_seeds(settings.documents, settings.seeds, seed=settings.seed)
        asked += ask_for_tasks(deal(seeds, settings.ask.written_in), asker, settings.ask, seed=settings.seed)
    pool = TaskPool()
    pool.read(asked, settings.checks, settings.answers_as)
    drop_tasks(settings, pool, store)
    pairs = write_answers(settings, pool, asker, recorded, work)
    if not pool.tasks:
        raise DataError(f"no task is left of {len(asked)} ({pool.explain()}); read the replies in {store.folder}")
    counts = {"asked": len(asked), **pool.write(work.folder, hard_fraction=settings.hard_fraction), "pairs": pairs}
    work.counts |= {
        **counts,
        "dropped": pool.count_dropped(),
        "licences": pool.count_licences(),
        "requests": store.requests,
        "tokens": store.tokens,
    }
    work.measures |= pool.measure()
    work.report += pool.describe(len(asked))
    work.report.append(f"{counts['hard']} of them hard, {pairs} pairs; {store.describe()}")


def open_asker(settings: Settings, store: "ReplyStore", work: Work) -> "Asker | None":
    """The server or the model that is asked; `None` if neither is."""
    from codeshell_hf.manifest import hash_input
    from codeshell_hf.synthesize.asking import ask_model
    from codeshell_hf.synthesize.rounds import Asker, make_server_asker
    from codeshell_hf.text.client import open_client

    if settings.server is not None:
        client = open_client(settings.server, "server", concurrency=settings.ask.concurrency)
        return make_server_asker(client, store, max_failures=settings.ask.max_failures)
    if (folder := settings.model) is None:
        return None

    def send(requests: Sequence["ModelRequest"], on_progress: Callable[[], object]) -> None:
        from codeshell_hf.align.models import open_tokenizer
        from codeshell_hf.loading import load_model

        dtype = resolve_precision(settings.precision, lambda: read_config(folder), work).dtype
        model, tokenizer = load_model(str(folder), dtype=dtype), open_tokenizer(folder)
        ask_model(
            model, tokenizer, requests, store, on_progress, batch_size=settings.ask.batch_size, seed=settings.seed
        )

    return Asker(hash_input(folder), store, send)


def drop_tasks(settings: Settings, pool: "TaskPool", store: "ReplyStore") -> None:
    """Drops tasks that touch a benchmark, that the sandbox refuses, and copies, in this order."""
    from tqdm.auto import tqdm

    from codeshell_hf.curate.benchmark_tasks import read_tasks
    from codeshell_hf.curate.decontamination import Decontaminator
    from codeshell_hf.curate.small_sets import find_near_copies
    from codeshell_hf.synthesize.program_checks import check_programs

    if settings.benchmarks:
        known = Decontaminator(
            {one.name: read_tasks(one) for one in settings.benchmarks}, min_overlap=settings.min_benchmark_overlap
        )
        pool.drop_contaminated(known.find, settings.min_benchmark_overlap)
    with tqdm(total=len(pool.tasks), desc="run tests", unit="task", disable=None) as bar:
        pool.take_outcomes(
            check_programs(
                pool.tasks,
                settings.checks,
                settings.open_sandbox,
                store.open_outcomes(),
                timeout_s=settings.timeout_s,
                on_progress=bar.update,
            )
        )
    pool.drop_exact_copies()
    if settings.near_duplicates is not None and pool.tasks:
        near = settings.near_duplicates
        pool.drop_near_copies(lambda texts: find_near_copies(texts, near), near.min_jaccard)


def write_answers(
    settings: Settings,
    pool: "TaskPool",
    asker: "Asker | None",
    recorded: "dict[str, tuple[Reply, ...]]",
    work: Work,
) -> int:
    """Runs further answers, notes which tasks they solve, writes pairs of right and wrong ones, and counts these."""
    import random

    from codeshell_hf.align.pairing import pair_by_verdict
    from codeshell_hf.align.preferences import write_pairs
    from codeshell_hf.synthesize.rounds import gather_answers, run_answers

    answers = gather_answers(pool.tasks, recorded, asker, settings.ask, seed=settings.seed)
    passes: list[list[bool]] = [[] for _ in answers]
    if any(answers):
        with settings.open_sandbox() as sandbox:
            passes = run_answers(pool.tasks, answers, sandbox)
    rng = random.Random(settings.seed)
    pairs = {
        task.id: pair_by_verdict(
            [{"role": "user", "content": task.problem}],
            [task.answer, *(reply.text for reply in own)],
            [True, *right],
            max_pairs=settings.max_pairs_per_problem,
            source="tests",
            rng=rng,
            tests=task.tests,
        )
        for task, own, right in zip(pool.tasks, answers, passes, strict=True)
    }
    pool.rate(passes, settings.checks.min_pass_rate)
    kept = [pair for task in pool.tasks for pair in pairs[task.id]]
    if kept:
        write_pairs(work.folder / "pairs.jsonl", kept)
    return len(kept)


def describe(settings: Settings) -> list[str]:
    """How much is asked at most."""
    if settings.documents is None:
        return ["asks nobody, and reads recorded replies alone"]
    return settings.budget.describe(settings.seeds.count, settings.ask.answers)


STAGE = Stage(
    name="synthesize",
    settings=Settings,
    run=run,
    describe=describe,
    examples=(
        "recipes/nano-full/synthesize.yaml --dry-run",
        "recipes/codeshell-7b/synthesize.yaml server.url=http://127.0.0.1:8000/v1 seeds.count=200",
        "recipes/codeshell-7b/synthesize.yaml budget.max_requests=500 budget.max_tokens=2_000_000",
    ),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
