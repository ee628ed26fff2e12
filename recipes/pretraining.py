"""What pretraining is made of besides its loop: settings, data, model, batches, and a signal to stop."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from codeshell_hf.settings import Section
from codeshell_hf.stages.numerics import PrecisionSettings
from codeshell_hf.stages.stage import StageSettings

if TYPE_CHECKING:
    import torch

    from codeshell_hf import CodeShellConfig, CodeShellTokenizer
    from codeshell_hf.pack.mixture import Mixture
    from codeshell_hf.pack.rows import Batch, Rows
    from recipes.launcher import Ranks


class ModelSettings(Section):
    """The model to train."""

    preset: str = Field(default="nano", description="an architecture of codeshell_hf.presets")
    start_from: str | None = Field(default=None, description="weights to go on from: a folder or a Hub name")
    changes: dict[str, Any] = Field(default_factory=dict, description="config fields that differ from the preset")


class BatchSettings(Section):
    """How many tokens go together."""

    global_tokens: int = Field(gt=0, description="tokens of a step, over all ranks")
    micro_tokens: int = Field(gt=0, description="tokens of one forward pass of one rank")


class PhaseSettings(Section):
    """A length of rows."""

    until_fraction: float = Field(gt=0, le=1, description="share of all tokens at which it ends")
    row_tokens: int = Field(gt=1, description="tokens of a row")


class ScheduleSettings(Section):
    """How long, and with which rows and learning rates."""

    total_tokens: int = Field(gt=0, description="tokens of the whole run")
    max_epochs: float | None = Field(default=None, gt=0, description="more than so many passes are refused")
    warmup_tokens: int = Field(ge=0, description="tokens until the peak learning rate")
    floor_fraction: float = Field(default=0.1, ge=0, le=1, description="last learning rate as a share of the peak")
    phases: tuple[PhaseSettings, ...] = Field(description="lengths of rows, in order", min_length=1)


class OptimizerSettings(Section):
    """How weights move."""

    name: Literal["adamw", "muon"] = Field(default="adamw", description="muon: for the matrices of the blocks")
    learning_rate: float = Field(gt=0, description="AdamW's peak")
    matrix_learning_rate: float | None = Field(default=None, gt=0, description="Muon's peak")
    betas: tuple[float, float] = Field(default=(0.9, 0.95), description="AdamW's decay rates")
    epsilon: float = Field(default=1e-8, gt=0, description="AdamW's term in the denominator")
    weight_decay: float = Field(default=0.1, ge=0, description="for matrices")
    max_gradient_norm: float | None = Field(default=1.0, gt=0, description="gradients are scaled down to it")


class MixtureSettings(Section):
    """Further shards that the run draws from."""

    shards: Path = Field(description="output of pack, or a folder of datatrove's .ds files")
    share: float = Field(gt=0, lt=1, description="of all tokens; what is left of 1 is the recipe's own shards'")


class InfillingSettings(Section):
    """Fill-in-the-middle."""

    level: Literal["token", "character"] = Field(default="token", description="what cuts fall between")
    rate: float = Field(default=0.5, ge=0, le=1, description="share of documents that are rearranged")
    spm_rate: float = Field(default=0.5, ge=0, le=1, description="share of those with the suffix first")


class CheckpointSettings(Section):
    """When the run is saved."""

    every_steps: int = Field(default=1000, gt=0, description="steps between checkpoints")
    keep: int = Field(default=2, gt=0, description="how many of the last are kept")
    keep_every_steps: int | None = Field(default=None, gt=0, description="those at multiples of it are kept for good")


class EvaluationSettings(Section):
    """What is measured on held-out documents."""

    every_steps: int | None = Field(default=None, gt=0, description="steps between measurements besides first and last")
    max_bytes_per_language: int = Field(default=200_000, gt=0, description="how much of a language is read")
    shards: Path | None = Field(default=None, description="output of pack with held-out documents; null: shards")
    exports: bool = Field(default=False, description="save the model for transformers at each measurement")
    benchmarks: Path | None = Field(default=None, description="settings of evaluate, to run on each export meanwhile")


class GuardSettings(Section):
    """Steps that are not taken."""

    max_norm_ratio: float | None = Field(default=20.0, gt=1, description="of a gradient norm to the running mean")
    warmup_steps: int = Field(default=100, ge=0, description="steps before spikes are looked for")
    max_skips: int = Field(default=10, gt=0, description="after so many on end the run goes back to a checkpoint")
    max_returns: int = Field(default=3, ge=0, description="after so many returns the run fails")


class Settings(StageSettings, PrecisionSettings):
    """Settings of pretraining."""

    shards: Path = Field(description="output of pack, or a folder of datatrove's .ds files")
    mixture: tuple[MixtureSettings, ...] = Field(default=(), description="further shards, by share")
    tokenizer: Path = Field(description="output of tokenizer, saved with the model")
    model: ModelSettings = Field(description="the model")
    batch: BatchSettings = Field(description="batches")
    schedule: ScheduleSettings = Field(description="schedule")
    optimizer: OptimizerSettings = Field(description="optimiser")
    infilling: InfillingSettings | None = Field(default=None, description="fill-in-the-middle")
    checkpoint: CheckpointSettings = Field(default_factory=CheckpointSettings, description="checkpoints")
    guard: GuardSettings = Field(default_factory=GuardSettings, description="guard")
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings, description="evaluation")
    gradient_checkpointing: bool = Field(default=False, description="recompute activations to save memory")
    compiles: bool = Field(default=False, description="compile each block with torch.compile")
    accelerate: Path | None = Field(default=None, description="accelerate's file, where torchrun starts the processes")
    trackers: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = Field(default=(), description="who is told")
    peak_tflops: float | None = Field(default=None, gt=0, description="a device's peak; null: known devices' own")
    log_every_steps: int = Field(default=50, gt=0, description="steps between lines")
    seed: int = Field(default=0, ge=0, description="decides weights, order and rearranging")


def choose_step(settings: Settings, ranks: "Ranks") -> int:
    """Rounds the tokens of a step to what the ranks divide, and says so.

    Args:
        settings: What was asked for.
        ranks: How many share it.

    Returns:
        Tokens of a step.

    Raises:
        SettingsError: If rows do not divide a forward pass.
    """
    from codeshell_hf.train.schedule import fit_batch

    asked, micro_tokens = settings.batch.global_tokens, settings.batch.micro_tokens
    lengths = [phase.row_tokens for phase in settings.schedule.phases]
    step_tokens = fit_batch(asked, micro_tokens=micro_tokens, row_lengths=lengths, ranks=ranks.count)
    if step_tokens != asked:
        given = f"{ranks.count} x {micro_tokens:,}"
        ranks.print(f"batch.global_tokens {asked:,} do not divide into {given}: takes {step_tokens:,}")
    return step_tokens


def check_step(before: int, now: int) -> None:
    """Holds a run that goes on to the steps that it began with.

    Args:
        before: Tokens of a step when the checkpoint was written.
        now: As this run's ranks and micro-batches round them.

    Raises:
        SettingsError: If they differ.
    """
    from codeshell_hf.errors import SettingsError

    if before != now:
        raise SettingsError(
            f"the checkpoint was made by steps of {before:,} tokens, but this run would take {now:,}; set "
            f"batch.micro_tokens or the number of processes so that they divide {before:,}"
        )


def open_rows(settings: Settings, tokenizer: "CodeShellTokenizer", *, step_tokens: int) -> "Rows | Mixture":
    """Opens the shards and lays their rows out.

    Args:
        settings: Which shards, which rows.
        tokenizer: What the shards must have been made with.
        step_tokens: Tokens of a step.

    Returns:
        The stream of rows.

    Raises:
        DataError: If shards are missing, broken, or of another tokenizer.
        SettingsError: If the run asks for more than there is.
    """
    from codeshell_hf.errors import SettingsError
    from codeshell_hf.pack.encoder import COMPARED_DOCUMENTS, make_codec
    from codeshell_hf.pack.infilling import Infilling
    from codeshell_hf.pack.mixture import Mixture
    from codeshell_hf.pack.rows import Phase, Rows
    from codeshell_hf.train.schedule import place_phases

    schedule = settings.schedule
    if schedule.warmup_tokens >= schedule.total_tokens:
        raise SettingsError(
            f"schedule.warmup_tokens is {schedule.warmup_tokens}, but the run ends after {schedule.total_tokens}; "
            "set it to less"
        )
    shares = [(phase.until_fraction, phase.row_tokens) for phase in schedule.phases]
    placed = place_phases(shares, total_tokens=schedule.total_tokens, step_tokens=step_tokens)
    phases = [Phase(*one) for one in placed]
    asked = settings.infilling
    sources = [settings.shards, *(one.shards for one in settings.mixture)]
    shards = [open_shards(folder, settings, tokenizer) for folder in sources]
    codec = None
    if asked and asked.level == "character":
        some = range(0, len(shards[0]), max(1, len(shards[0]) // COMPARED_DOCUMENTS))
        codec = make_codec(tokenizer, (tokenizer.decode(shards[0][index]) for index in some))
    infilling = Infilling(asked.rate, asked.spm_rate, codec) if asked else None
    if settings.mixture:
        further = [one.share for one in settings.mixture]
        weights = [1 - sum(further), *further]
        rows: Rows | Mixture = Mixture(shards, weights, seed=settings.seed, phases=phases, infilling=infilling)
    else:
        rows = Rows(shards[0], seed=settings.seed, phases=phases, infilling=infilling)
    if schedule.max_epochs is not None:
        epochs = rows.count_epochs(schedule.total_tokens)
        if epochs > schedule.max_epochs:
            raise SettingsError(
                f"schedule.total_tokens is {schedule.total_tokens}, which is {epochs:.2f} passes over the shards, but "
                f"schedule.max_epochs is {schedule.max_epochs}; ask for fewer tokens or pack more"
            )
    return rows


def open_shards(folder: Path, settings: Settings, tokenizer: "CodeShellTokenizer") -> Any:
    """Opens one folder of training documents.

    Args:
        folder: Output of pack, or datatrove's `.ds` files.
        settings: Name the tokenizer.
        tokenizer: The same, loaded.

    Returns:
        Documents for `Rows`.

    Raises:
        DataError: If they are missing, broken, or of another tokenizer.
    """
    from codeshell_hf.errors import DataError
    from codeshell_hf.manifest import hash_input
    from codeshell_hf.pack.datatrove import SUFFIX, DatatroveShards
    from codeshell_hf.text.shards import Header, TokenShards

    named = hash_input(settings.tokenizer)
    if any(folder.glob(f"*{SUFFIX}")):
        vocabulary = tokenizer.get_vocab()
        sentinels = tuple(vocabulary.get(f"<fim_{part}>", -1) for part in ("prefix", "middle", "suffix"))
        known = None if -1 in sentinels else (sentinels[0], sentinels[1], sentinels[2])
        return DatatroveShards(folder, Header(len(tokenizer), tokenizer.eos_token_id, known, named))
    shards = TokenShards(folder / "train")
    if shards.header.tokenizer != named:
        raise DataError(
            f"{folder} was packed with another tokenizer than {settings.tokenizer}; name that one, or pack again"
        )
    return shards


def make_config(settings: Settings, *, end_of_text: int, vocab_size: int) -> "CodeShellConfig":
    """Makes the architecture's configuration, or reads that of the weights to go on from.

    Args:
        settings: Name the architecture or the weights.
        end_of_text: Id of the shards' end of text.
        vocab_size: Entries of the shards' tokenizer.

    Returns:
        The configuration.

    Raises:
        CheckpointError: If the weights' configuration cannot be read.
        SettingsError: If the vocabulary or the rows do not fit.
    """
    from codeshell_hf import CodeShellConfig
    from codeshell_hf.errors import CheckpointError, SettingsError
    from codeshell_hf.presets import make_config as make

    if settings.model.start_from is not None:
        try:
            config = CodeShellConfig.from_pretrained(settings.model.start_from)
        except Exception as error:  # JSON, the Hub and the file system each have their own kinds
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{settings.model.start_from} cannot be loaded ({reason}); name a whole CodeShell checkpoint"
            ) from error
    else:
        tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end_of_text)
        config = make(settings.model.preset, **(tokens | settings.model.changes))
    if vocab_size > config.vocab_size:
        raise SettingsError(
            f"the shards' vocabulary has {vocab_size} entries, but the embedding has "
            f"{config.vocab_size} rows; set model.changes.vocab_size to {vocab_size} or more"
        )
    longest = max(phase.row_tokens for phase in settings.schedule.phases)
    if longest > config.n_positions:
        raise SettingsError(
            f"schedule.phases has rows of {longest} tokens, but the model has {config.n_positions} positions; "
            f"set model.changes.n_positions to {longest} or shorten the rows"
        )
    return config


def read_step(
    rows: "Rows | Mixture", consumed: int, global_tokens: int, micro_tokens: int, rank: int, ranks: int
) -> "list[Batch]":
    """Reads this rank's micro-batches of a step: each n-th one of the whole step's.

    Args:
        rows: The stream.
        consumed: Tokens before the step.
        global_tokens: Tokens of the step.
        micro_tokens: Tokens of a micro-batch.
        rank: This process.
        ranks: All processes.

    Returns:
        Batches of (micro_tokens / row_tokens, row_tokens).
    """
    starts = range(consumed + rank * micro_tokens, consumed + global_tokens, ranks * micro_tokens)
    return [rows.read(start, micro_tokens // rows.find_row_tokens(start)) for start in starts]


def count_labels(batches: "list[Batch]", ranks: "Ranks") -> int:
    """Counts what a step predicts, over all ranks.

    Args:
        batches: This rank's.
        ranks: Adds them up.

    Returns:
        Number of labels behind the first position of a row that are not ignored.
    """
    return int(ranks.add_up(sum(int((batch.labels[:, 1:] != -100).sum()) for batch in batches))[0])


def to_tensors(batch: "Batch", device: "torch.device") -> "dict[str, torch.Tensor]":
    """Moves a batch to a device.

    Args:
        batch: The rows.
        device: Where to.

    Returns:
        The model's arguments.
    """
    import torch

    names = ("input_ids", "position_ids", "labels")
    return {name: torch.from_numpy(getattr(batch, name)).to(device, non_blocking=True) for name in names}


class StopSignal:
    """Whether the scheduler asked to stop."""

    def __init__(self) -> None:
        from codeshell_hf.operating_system import list_stop_signals

        self.was_asked = False
        for number in list_stop_signals():
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        self.was_asked = True
