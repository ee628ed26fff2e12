"""Models on benchmarks: whom to ask, what to ask, what is kept of the answers, and how they are judged."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from codeshell_hf.settings import Section

if TYPE_CHECKING:
    from codeshell_hf.evaluate.execution import Bench
    from codeshell_hf.evaluate.generation import Completion, Generator
    from codeshell_hf.evaluate.problems import Problem
    from codeshell_hf.evaluate.profiles import Profile
    from codeshell_hf.evaluate.scores import Score
    from codeshell_hf.sandbox import Sandbox

EXECUTED = ("execution", "tests")
MUTANTS = 5


class EndpointSettings(Section):
    """A model behind an OpenAI-compatible server, such as vLLM's or llama.cpp's."""

    url: str = Field(description="its base address, such as http://127.0.0.1:8000/v1")
    model: str = Field(description="the model's name there")
    token_variable: str | None = Field(default=None, description="environment variable with the server's key")
    calls_at_once: int = Field(default=16, gt=0, description="how many are under way together")


class ProgramSettings(Section):
    """Programs that another harness has written."""

    programs: dict[str, Path] = Field(description="by task: generations.json of bigcode's, .jsonl of EvalPlus'")


class TaskSettings(Section):
    """A benchmark and how it is posed."""

    profile: str = Field(description="the protocol, by name and version")
    data: str = Field(description="a file, a folder of files, or hub:OWNER/NAME@REVISION/FILE")
    samples: int | None = Field(default=None, gt=0, description="answers to a problem, instead of the profile's")
    max_new_tokens: int | None = Field(default=None, gt=0, description="of an answer, instead of the profile's")
    timeout_s: float | None = Field(default=None, gt=0, description="of a Python program, instead of the profile's")
    max_problems: int | None = Field(default=None, gt=0, description="the first of each language alone")
    strict: bool = Field(default=False, description="run Python's tests in another process than the program")


class HarnessSettings(Section):
    """What lm-evaluation-harness is asked."""

    mmlu: Path | None = Field(default=None, description="folder with test/ and dev/ of SUBJECT_*.csv")
    gsm8k: Path | None = Field(default=None, description="test.jsonl, with train.jsonl beside it")
    max_items: int | None = Field(default=None, gt=0, description="of each subject")


class JudgeSettings(Section):
    """Who says which of two answers is better."""

    url: str = Field(description="base address of an OpenAI-compatible server")
    model: str = Field(description="the judge's name there")
    against: str = Field(description="which of the models the others are compared with")
    requests: Path = Field(description="JSON Lines with id, language, prompt and kind")
    max_requests: int = Field(default=1_000, gt=0, description="budget of a run")
    max_new_tokens: int = Field(default=256, gt=0, description="of an answer")
    token_variable: str | None = Field(default=None, description="environment variable with the server's key")


ModelSettings = Path | EndpointSettings | ProgramSettings


@dataclass
class Contender:
    """A model that is evaluated.

    Args:
        name: What it is called.
        settings: Where it is.
        identity: What its answers depend on.
        generator: Who answers; `None` where programs are given.
        model: In memory, if it is.
        tokenizer: Its tokenizer.
        details: For the result: precision, device, parameters.
    """

    name: str
    settings: ModelSettings
    identity: dict[str, Any]
    generator: "Generator | None" = None
    model: Any = None
    tokenizer: Any = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class Task:
    """A benchmark, read and checked.

    Args:
        name: What it is called.
        settings: How.
        profile: The protocol, with what the settings change.
        problems: What is asked.
        shown: What is shown worked out.
        data_hash: Of the file.
        deviations: What the settings change.
        bench: Where programs run, once the right answers have passed.
    """

    name: str
    settings: TaskSettings
    profile: "Profile"
    problems: list["Problem"]
    shown: list["Problem"]
    data_hash: str
    deviations: dict[str, Any]
    bench: "Bench | None" = None


def open_contender(
    name: str, settings: ModelSettings, *, dtype: str, batch_size: int, options: Mapping[str, Any]
) -> Contender:
    """Loads a model, or finds where it answers.

    Args:
        name: What it is called.
        settings: Where it is.
        dtype: Of the weights in memory.
        batch_size: Rows at a time.
        options: Further ones of `from_pretrained`.

    Returns:
        The contender.

    Raises:
        CheckpointError: If it cannot be loaded.
    """
    from codeshell_hf.errors import CheckpointError
    from codeshell_hf.manifest import hash_file, hash_values

    if isinstance(settings, ProgramSettings):
        return Contender(name, settings, {"programs": {key: str(path) for key, path in settings.programs.items()}})
    if isinstance(settings, EndpointSettings):
        from codeshell_hf.evaluate.endpoint import EndpointGenerator
        from codeshell_hf.text.client import Client

        token = os.environ.get(settings.token_variable) if settings.token_variable else None
        generator = EndpointGenerator(Client(settings.url, settings.model, token, settings.calls_at_once))
        return Contender(name, settings, {"url": settings.url, "model": settings.model}, generator)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import codeshell_hf
    from codeshell_hf.dependencies import hash_code
    from codeshell_hf.evaluate import generation
    from codeshell_hf.train.weights import load_model

    device = "cuda" if torch.cuda.is_available() else "cpu"
    weights = [hash_file(path) for path in sorted(settings.glob("*.safetensors"))]
    if not weights:
        raise CheckpointError(f"models.{name} is {settings}, which holds no *.safetensors; name a model's folder")
    chosen = getattr(torch, dtype)
    config = settings / "config.json"
    is_ours = config.exists() and any(word in config.read_text(encoding="utf-8") for word in ("codeshell", "kclgpt"))
    if is_ours:
        tokenizer: Any = codeshell_hf.CodeShellTokenizer.from_pretrained(settings)
        model: Any = load_model(str(settings), dtype=chosen, **options)
    else:
        tokenizer = AutoTokenizer.from_pretrained(settings)
        model = AutoModelForCausalLM.from_pretrained(settings, dtype=chosen, **options)
    model = model.eval() if "device_map" in options else model.eval().to(device)
    tokens = [hash_file(path) for path in sorted(settings.glob("tokenizer*"))]
    identity = {"weights": hash_values(weights), "tokenizer": hash_values(tokens), "dtype": dtype}
    identity["code"] = hash_code(Path(generation.__file__))
    details = {"device": device, "parameters": sum(parameter.numel() for parameter in model.parameters())}
    writer = generation.ModelGenerator(model, tokenizer, batch_size=batch_size)
    return Contender(name, settings, identity, writer, model, tokenizer, details)


def read_task(name: str, settings: TaskSettings) -> Task:
    """Reads a benchmark's data and checks its settings.

    Args:
        name: What it is called.
        settings: How.

    Returns:
        The task.
    """
    from codeshell_hf.evaluate.problems import find_data, read_problems
    from codeshell_hf.evaluate.profiles import find_profile
    from codeshell_hf.manifest import hash_file, hash_values

    profile = find_profile(settings.profile)
    path = find_data(settings.data)
    problems, shown = profile.choose(read_problems(path, profile.read))
    deviations: dict[str, Any] = {}
    if settings.max_problems is not None:
        kept: dict[str, list[Problem]] = {}
        for problem in problems:
            kept.setdefault(problem.language, []).append(problem)
        fewer = [problem for own in kept.values() for problem in own[: settings.max_problems]]
        if len(fewer) < len(problems):
            deviations["problems"] = f"the first {settings.max_problems} of each language"
        problems = fewer
    for key in ("samples", "max_new_tokens", "timeout_s"):
        value = getattr(settings, key)
        if value is not None and value != getattr(profile, key):
            deviations[key] = value
            profile = replace(profile, **{key: value})
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    data_hash = hash_values([hash_file(file) for file in files])
    return Task(name, settings, profile, problems, shown, data_hash, deviations)


def prepare_task(task: Task, sandbox: "Sandbox", *, on_progress: Callable[[int], None] = lambda done: None) -> Task:
    """Runs the right answers, and makes the faulty programs of tasks that want them.

    Args:
        task: Of programs.
        sandbox: Where they run.
        on_progress: Called with the number of right answers just run.

    Returns:
        The task, with its bench.
    """
    from codeshell_hf.evaluate.execution import open_bench
    from codeshell_hf.evaluate.mutation import add_mutants

    problems = task.problems
    bench = open_bench(task.profile, problems, sandbox, strict=task.settings.strict, on_progress=on_progress)
    if task.profile.name.startswith(("fixing", "test-generation")):
        problems = add_mutants(problems, sandbox, per_problem=MUTANTS)
    return replace(task, problems=problems, bench=bench)


def ask(
    contender: Contender,
    task: Task,
    folder: Path,
    *,
    seed: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, list["Completion"]]:
    """Lets a model answer what it has not answered before.

    Args:
        contender: The model.
        task: What it is asked.
        folder: Where answers are kept.
        seed: Of sampling.
        on_progress: Called with the number of problems just answered.

    Returns:
        Answers by problem.
    """
    from codeshell_hf.evaluate.completions import CompletionFile
    from codeshell_hf.evaluate.generation import Request
    from codeshell_hf.manifest import hash_values

    profile = task.profile
    requests = [
        Request(
            id=problem.key,
            prompt=profile.pose(problem, task.shown),
            samples=profile.samples,
            stops=(*profile.stops, *problem.stops),
            max_new_tokens=profile.max_new_tokens,
            max_tokens=profile.max_tokens,
            temperature=profile.temperature,
            top_p=profile.top_p,
            seed=seed,
        )
        for problem in task.problems
    ]
    asked = {request.id: hash_values(asdict(request)) for request in requests}
    origin = {**contender.identity, "profile": profile.describe(), "data": task.data_hash, "seed": seed}
    file: CompletionFile = CompletionFile(folder, f"{task.name}-{contender.name}", origin)
    missing = [request for request in requests if file.find(request.id, asked[request.id]) is None]
    on_progress(len(requests) - len(missing))

    def keep(request: Request, completions: list["Completion"]) -> None:
        file.add(request.id, asked[request.id], completions)
        on_progress(1)

    if missing and contender.generator is not None:
        contender.generator.generate(missing, keep)
    return {request.id: file.find(request.id, asked[request.id]) or [] for request in requests}


def judge(
    task: Task,
    answers: Mapping[str, Sequence["Completion"]],
    *,
    on_progress: Callable[[int], None] = lambda done: None,
) -> "Score":
    """Judges answers as the task's profile says.

    Args:
        task: With its bench, if it runs programs.
        answers: By problem.
        on_progress: Called with the number of programs just run.

    Returns:
        The result.
    """
    from codeshell_hf.evaluate.execution import judge_programs, judge_tests
    from codeshell_hf.evaluate.safety import score_memory, score_requests, score_security
    from codeshell_hf.evaluate.scores import count_ends, score_texts

    profile, problems = task.profile, task.problems
    written = {
        problem.key: [profile.cut(problem, completion.text) for completion in answers[problem.key]]
        for problem in problems
    }
    if profile.measure == "execution" and profile.program is not None and task.bench is not None:
        programs = {
            problem.key: [profile.program(problem, text)[0] for text in written[problem.key]] for problem in problems
        }
        score = judge_programs(task.bench, problems, programs, on_progress=on_progress)
    elif profile.measure == "tests" and task.bench is not None:
        score = judge_tests(task.bench, problems, written, on_progress=on_progress)
    elif profile.measure == "security":
        score = score_security(problems, written)
    elif profile.measure == "refusal":
        score = score_requests(problems, written)
    elif profile.measure == "memorisation":
        score = score_memory(problems, written)
    else:
        score = score_texts(problems, written, has_bleu=profile.measure == "text")
    score.counts |= count_ends([completion.end for found in answers.values() for completion in found])
    return score


def judge_given(task: Task, path: Path, *, on_progress: Callable[[int], None] = lambda done: None) -> "Score":
    """Judges programs that another harness has written.

    Args:
        task: With its bench.
        path: The programs.
        on_progress: Called with the number of programs just run.

    Returns:
        The result.

    Raises:
        SettingsError: If the task does not run programs.
    """
    from codeshell_hf.errors import SettingsError
    from codeshell_hf.evaluate.completions import read_programs
    from codeshell_hf.evaluate.execution import judge_programs

    if task.profile.measure != "execution" or task.bench is None:
        raise SettingsError(f"tasks.{task.name} runs no programs; give programs for tasks of execution alone")
    return judge_programs(task.bench, task.problems, read_programs(path, task.problems), on_progress=on_progress)


def compare_answers(
    settings: JudgeSettings, answers: Mapping[str, Mapping[str, str]], requests: Sequence["Problem"], cache: Path
) -> dict[str, "Score"]:
    """Lets a judge say how often each model's answer is better than that of one of them.

    Args:
        settings: Who judges.
        answers: By model, then by request.
        requests: What was asked.
        cache: Where its verdicts are kept.

    Returns:
        By model: "preferred", where a tie counts half.
    """
    from codeshell_hf.evaluate.scores import make_score
    from codeshell_hf.text.cache import JsonLinesCache
    from codeshell_hf.text.client import Client
    from codeshell_hf.text.judge import Judge

    token = os.environ.get(settings.token_variable) if settings.token_variable else None
    asked = Judge(Client(settings.url, settings.model, token), JsonLinesCache(cache), settings.max_requests)
    scores = {}
    for name, own in answers.items():
        if name == settings.against:
            continue
        values, ties = [], 0
        for request in requests:
            key = request.key
            verdict = asked.compare(
                [{"role": "user", "content": request.prompt}], own[key], answers[settings.against][key]
            )
            ties += verdict is None
            values.append(0.5 if verdict is None else float(verdict == 0))
        score = make_score({"preferred": values}, [request.language for request in requests])
        score.counts = {"problems": len(values), "ties": ties}
        score.notes["preferred"] = f"over {settings.against}, by {settings.model}, asked in both orders; a tie is half"
        scores[name] = score
    return scores
