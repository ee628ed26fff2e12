"""The steps of `codeshell run`: a system's stages in order, what makes each input, and how each stage is started."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pydantic

from ..settings import Section, load_settings
from ..stages import STAGES
from ..stages.stage import Stage, StageSettings, is_up_to_date
from .launch import load_stage
from .workspace import find_settings_files

OUTSIDE = Path("data")  # what no stage makes
OUTPUTS = "runs"
LAUNCH = "launch.yaml"


class Launch(Section):
    """The ranks of a stage that trains."""

    accelerate: Path = pydantic.Field(description="accelerate's file")
    ranks: int = pydantic.Field(gt=0, description="number of GPUs")


class Launches(Section):
    """A system's `launch.yaml`; stages that it leaves out run in one process."""

    pretrain: Launch | None = None
    sft: Launch | None = None
    preferences: Launch | None = None
    reward: Launch | None = None
    rlhf: Launch | None = None
    dpo: Launch | None = None


@dataclass(frozen=True, eq=False)
class Step:
    """A stage of a run.

    Args:
        name: The settings file's stem, such as "pack-instructions"; of another system, "SYSTEM/STEM".
        file: The settings file.
        inputs: What it reads, by name; for `pretrain`, with what its benchmarks read.
        servers: Models that servers have to offer, as name, address and model.
        launch: How its ranks are started; `None` for one process.
    """

    name: str
    file: Path
    stage: Stage[StageSettings]
    settings: StageSettings
    overrides: Sequence[str]
    inputs: Mapping[str, Path]
    servers: Sequence[tuple[str, str, str]] = ()
    launch: Launch | None = None

    def makes(self, path: Path) -> bool:
        """Whether a path is its output, or in it."""
        return path.absolute().is_relative_to(self.settings.output.absolute())

    def describe_launch(self) -> str:
        """How it is started."""
        if self.launch is None:
            return "in this process"
        options = f"--config_file {self.launch.accelerate} --num_processes {self.launch.ranks}"
        return " ".join([f"accelerate launch {options} -m recipes.{self.stage.name} {self.file}", *self.overrides])


@dataclass(frozen=True)
class Chain:
    """The steps of a run in order, and a line for each stage or file of the system that is not run."""

    steps: Sequence[Step]
    left_out: Sequence[str]

    def find_maker(self, step: Step, path: Path) -> Step | None:
        """The earlier step that makes an input; `None` if it is present, or data from outside.

        Raises:
            DataError: If no earlier step makes it, it does not exist, and it is not under `data/`.
        """
        from ..errors import DataError

        place = self.steps.index(step)
        makers = [other for other in self.steps if other.makes(path)]
        earlier = [other for other in makers if self.steps.index(other) < place]
        if earlier:
            return earlier[-1]
        if path.exists() or path.absolute().is_relative_to(OUTSIDE.absolute()):
            return None
        reason = f"which {makers[0].name} makes only later" if makers else "which no stage makes"
        raise DataError(
            f"{step.name} reads {path}, {reason}; add the settings of the stage that makes it, or name another file "
            f"in {step.file}"
        )


def make_chain(
    system: str, roots: Sequence[Path], overrides: Mapping[str, Sequence[str]], *, sandbox: str | None
) -> Chain:
    """Reads the settings of a system, and of what it takes from other systems, and orders them.

    A file with a name of its own, such as `pack-instructions.yaml`, is a step if another step reads its output. Where a
    step reads an output of another system, such as `runs/codeshell-7b/tokenizer`, the stages that make it come first,
    unless it is there.

    Args:
        system: A folder under `recipes/`.
        roots: Folders with `recipes/`.
        overrides: Of the system's files, by stem.
        sandbox: Backend of every stage that runs programs; `None` for that of the settings.

    Raises:
        SettingsError: If settings are wrong.
        DataError: If an input is neither made by an earlier step, nor present, nor under `data/`.
        ValueError: If there is no such system.
    """
    known = read_steps(system, roots, overrides, sandbox=sandbox)
    steps = [step for step in known if step.name in STAGES]
    while read := [step for step in known if step not in steps and reads_from(steps, step)]:
        steps = [step for step in known if step in steps or step in read]
    others = find_others(system, steps, roots, sandbox=sandbox)
    chain = Chain([*others, *steps], describe_left_out(known, others, steps))
    for step in chain.steps:
        for path in step.inputs.values():
            chain.find_maker(step, path)
    return chain


def read_steps(
    system: str, roots: Sequence[Path], overrides: Mapping[str, Sequence[str]], *, sandbox: str | None
) -> list[Step]:
    """The stages of a system with their settings, in order."""
    files = find_settings_files(system, roots)
    launches = Launches()
    if (path := next(iter(files.values())).with_name(LAUNCH)).is_file():
        launches = load_settings(Launches, path)
    return [make_step(name, file, overrides.get(name, ()), launches, sandbox=sandbox) for name, file in files.items()]


def make_step(name: str, file: Path, overrides: Sequence[str], launches: Launches, *, sandbox: str | None) -> Step:
    """Reads a stage's settings and lists its inputs."""
    stage = load_stage(name.partition("-")[0])
    if sandbox is not None and "sandbox" in stage.settings.model_fields:
        overrides = [f"sandbox={sandbox}", *overrides]
    settings = load_settings(stage.settings, file, overrides)
    inputs = dict(stage.inputs(settings))
    if (benchmarks := getattr(getattr(settings, "evaluation", None), "benchmarks", None)) is not None:
        evaluate = load_stage("evaluate")
        read = evaluate.inputs(load_settings(evaluate.settings, benchmarks, ["models={}"]))
        inputs |= {f"{name} in benchmarks": path for name, path in read.items()}
    models = getattr(settings, "models", {})
    asked = {**models, "server": getattr(settings, "server", None)}
    servers = [(key, model.url, model.model) for key, model in asked.items() if hasattr(model, "url")]
    return Step(
        name, file, stage, settings, overrides, inputs, servers, getattr(launches, stage.name, None)
    )  # fmt: skip


def reads_from(steps: Iterable[Step], maker: Step) -> bool:
    """Whether one of the steps reads what another makes."""
    return any(maker.makes(path) for step in steps for path in step.inputs.values())


def find_others(system: str, steps: Sequence[Step], roots: Sequence[Path], *, sandbox: str | None) -> list[Step]:
    """The stages of other systems that make missing inputs of these steps, in the order of stages."""
    found: list[Step] = []
    known: dict[str, list[Step]] = {system: []}
    waiting = [path for step in steps for path in step.inputs.values()]
    while waiting:
        path = waiting.pop()
        is_made = path.exists() or any(step.makes(path) for step in (*steps, *found))
        if is_made or path.parts[:1] != (OUTPUTS,) or len(path.parts) < 3:
            continue
        name = path.parts[1]
        if name not in known:
            try:
                known[name] = read_steps(name, roots, {}, sandbox=sandbox)
            except ValueError:  # no system of that name
                known[name] = []
        for step in known[name]:
            if step.makes(path):
                found.append(replace(step, name=f"{name}/{step.name}"))
                waiting += step.inputs.values()
    return sorted(found, key=lambda step: STAGES.index(step.stage.name))


def describe_left_out(known: Sequence[Step], others: Sequence[Step], steps: Sequence[Step]) -> list[str]:
    """Says of each stage without settings, and of each file that no step needs, that it is not run."""
    names = {step.stage.name for step in (*others, *steps)}
    missing = [name for name in STAGES if name not in names]
    lines = [f"not run, without settings in {known[0].file.parent}: {', '.join(missing)}"] if missing else []
    for step in known:
        readers = [one.name for one in steps if step.file.resolve() in map(Path.resolve, one.inputs.values())]
        if readers:
            lines.append(f"run by {readers[0]}: {step.file}")
        elif step not in steps:
            command = f"codeshell {step.stage.name} {step.file}"
            lines.append(f"not run, since no stage reads {step.settings.output}: {step.file} ({command} runs it)")
    return lines


def describe_chain(chain: Chain) -> list[str]:
    """Lines on each step: its settings, what it reads and who makes it, whether it is to be run, how it is started."""
    lines: list[str] = []
    pending: list[Step] = []
    for number, step in enumerate(chain.steps, 1):
        lines.append(f"== {step.name} ({number} of {len(chain.steps)}): {step.file}, whose settings are valid")
        makers = []
        for name, path in step.inputs.items():
            maker = chain.find_maker(step, path)
            makers.append(maker)
            origin = f"from {maker.name}" if maker is not None else "from outside"
            lines.append(f"  reads {name}: {path}, {origin}, {'present' if path.exists() else 'missing'}")
        lines += [f"  asks {name}: {url}, a server of {model}" for name, url, model in step.servers]
        is_done = not any(maker in pending for maker in makers) and is_up_to_date(step.stage, step.settings)
        if not is_done:
            pending.append(step)
        lines.append(f"  writes {step.settings.output}: {'up to date' if is_done else 'to be run'}")
        lines.append(f"  launch: {step.describe_launch()}")
    return [*lines, *chain.left_out]
