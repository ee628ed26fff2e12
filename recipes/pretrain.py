"""Pretrains a model on token shards: the one training loop, counted in tokens.

python -m recipes.pretrain recipes/nano/pretrain.yaml
accelerate launch --config_file recipes/accelerate/ddp.yaml -m recipes.pretrain recipes/codeshell-small/pretrain.yaml
"""

import math
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from recipes.stage import Section, Stage, StageSettings, Work, is_first_rank, main

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from codeshell_hf import CodeShellForCausalLM
    from codeshell_hf.pack.rows import Batch, Rows
    from codeshell_hf.pack.shards import TokenShards
    from codeshell_hf.train.progress import Log, Progress


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


class InfillingSettings(Section):
    """Fill-in-the-middle."""

    rate: float = Field(default=0.5, ge=0, le=1, description="share of documents that are rearranged")
    spm_rate: float = Field(default=0.5, ge=0, le=1, description="share of those with the suffix first")


class CheckpointSettings(Section):
    """When the run is saved."""

    every_steps: int = Field(default=1000, gt=0, description="steps between checkpoints")
    keep: int = Field(default=2, gt=0, description="how many of the last are kept")


class EvaluationSettings(Section):
    """What is measured on held-out documents."""

    every_steps: int | None = Field(default=None, gt=0, description="steps between measurements besides first and last")
    max_bytes_per_language: int = Field(default=200_000, gt=0, description="how much of a language is read")
    shards: Path | None = Field(default=None, description="output of pack with held-out documents; null: shards")


class Settings(StageSettings):
    """Settings of pretraining."""

    shards: Path = Field(description="output of pack")
    tokenizer: Path = Field(description="output of tokenizer, saved with the model")
    model: ModelSettings = Field(description="the model")
    batch: BatchSettings = Field(description="batches")
    schedule: ScheduleSettings = Field(description="schedule")
    optimizer: OptimizerSettings = Field(description="optimiser")
    infilling: InfillingSettings | None = Field(default=None, description="fill-in-the-middle")
    checkpoint: CheckpointSettings = Field(default_factory=CheckpointSettings, description="checkpoints")
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings, description="evaluation")
    precision: Literal["fp32", "bf16"] = Field(default="bf16", description="arithmetic; weights are kept in fp32")
    gradient_checkpointing: bool = Field(default=False, description="recompute activations to save memory")
    peak_tflops: float | None = Field(default=None, gt=0, description="a device's peak, to print the share reached")
    log_every_steps: int = Field(default=50, gt=0, description="steps between lines")
    seed: int = Field(default=0, ge=0, description="decides weights, order and rearranging")


def run(settings: Settings, work: Work) -> None:
    """Trains, measures before and after, and saves the model with its tokenizer.

    Args:
        settings: What to train, on what, how.
        work: Where to write.
    """
    import torch

    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.errors import Interrupted, RunFailed
    from codeshell_hf.pack.infilling import Infilling
    from codeshell_hf.pack.rows import Phase, Rows
    from codeshell_hf.pack.shards import TokenShards
    from codeshell_hf.train.optimizer import OptimizerOptions, groups, make_optimizers, set_learning_rate
    from codeshell_hf.train.progress import Log, restore, save
    from codeshell_hf.train.schedule import LearningRate, check_batches, place_phases
    from codeshell_hf.train.throughput import cost_token
    from recipes.launcher import start_accelerator

    accelerator = start_accelerator(precision=settings.precision)
    ranks, rank = accelerator.num_processes, accelerator.process_index
    total = settings.schedule.total_tokens
    micro_tokens, global_tokens = settings.batch.micro_tokens, settings.batch.global_tokens
    row_lengths = [phase.row_tokens for phase in settings.schedule.phases]
    check_batches(step_tokens=global_tokens, micro_tokens=micro_tokens, row_lengths=row_lengths, ranks=ranks)
    shares = [(phase.until_fraction, phase.row_tokens) for phase in settings.schedule.phases]
    phases = [Phase(*placed) for placed in place_phases(shares, total_tokens=total, step_tokens=global_tokens)]
    shards = TokenShards(settings.shards / "train")
    infilling = Infilling(settings.infilling.rate, settings.infilling.spm_rate) if settings.infilling else None
    rows = Rows(shards, seed=settings.seed, phases=phases, infilling=infilling)
    tokenizer = CodeShellTokenizer.from_pretrained(settings.tokenizer)

    torch.manual_seed(settings.seed)
    bare = make_model(settings, shards)
    options = settings.optimizer.model_dump(exclude={"max_gradient_norm"})
    optimizers = make_optimizers(bare, OptimizerOptions(**options))
    model = accelerator.prepare(bare)
    rate = LearningRate(
        settings.optimizer.learning_rate,
        settings.schedule.floor_fraction,
        settings.schedule.warmup_tokens,
        total,
    )

    steps = math.ceil(total / global_tokens)
    accelerator.print(
        f"{sum(parameter.numel() for parameter in bare.parameters()):,} parameters, {steps:,} steps of "
        f"{global_tokens:,} tokens on {ranks} {accelerator.device.type} process{'es' if ranks > 1 else ''}"
    )
    checkpoints = work.folder / "checkpoints"
    progress = restore(checkpoints, bare, optimizers)
    if progress.step:
        accelerator.print(f"goes on at step {progress.step} of {steps}")

    stop = StopSignal()
    log = Log(work.folder / "log.jsonl", progress.step, is_writer=is_first_rank())
    held_out = read_held_out(settings, log, accelerator)
    if progress.step == 0:
        held_out.measure(bare, progress)
    started = time.monotonic()
    with show_bar(steps, progress.step) as bar:
        while progress.step < steps:
            row_tokens = rows.find_row_tokens(progress.tokens)
            loss_sum = torch.zeros((), device=accelerator.device)
            micro_batches = read_step(rows, progress.tokens, global_tokens, micro_tokens, rank, ranks)
            items = count_labels(micro_batches, accelerator)
            for index, batch in enumerate(micro_batches):
                is_last = index == len(micro_batches) - 1
                with accelerator.autocast(), skip_sync(accelerator, model, is_last=is_last):
                    # The sum over all labels of the step, whatever rank or micro-batch they are in, is divided once.
                    # DDP averages over ranks, hence the factor.
                    loss = model(**to_tensors(batch, accelerator.device), num_items_in_batch=items).loss * ranks
                    accelerator.backward(loss)
                loss_sum += loss.detach() / ranks
            norm = clip(bare, settings.optimizer.max_gradient_norm)
            progress.step, progress.tokens = progress.step + 1, progress.tokens + global_tokens
            set_learning_rate(optimizers, rate.factor(progress.tokens))
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

            loss_value = float(accelerator.reduce(loss_sum, reduction="sum"))
            if not math.isfinite(loss_value):
                raise RunFailed(
                    f"the loss is {loss_value} at step {progress.step}; lower optimizer.learning_rate and run again"
                )
            elapsed = time.monotonic() - started
            log.step(
                progress,
                loss=loss_value,
                gradient_norm=norm,
                learning_rate=groups(optimizers)[0]["lr"],
                row_tokens=row_tokens,
                elapsed_s=elapsed,
            )
            bar.update()
            if progress.step % settings.log_every_steps == 0 or progress.step == steps:
                cost = cost_token(bare.config, row_tokens)
                bar.write(log.line(steps, global_tokens, cost.causal, settings.peak_tflops, ranks))
            every = settings.evaluation.every_steps
            if every and progress.step % every == 0 and progress.step < steps:
                held_out.measure(bare, progress)
            is_due = progress.step % settings.checkpoint.every_steps == 0
            is_stopping = stop.is_set(accelerator)
            if is_due or is_stopping or progress.step == steps:
                if accelerator.is_main_process:
                    save(checkpoints, bare, optimizers, progress, keep=settings.checkpoint.keep)
                accelerator.wait_for_everyone()
            if is_stopping and progress.step < steps:
                raise Interrupted(f"saved step {progress.step} of {steps}; run the same command again to go on")

    held_out.measure(bare, progress)
    if accelerator.is_main_process:
        bare.save_pretrained(work.folder / "model")
        tokenizer.save_pretrained(work.folder / "model")
        report(settings, work, log, rows, progress, held_out)
    accelerator.wait_for_everyone()


def make_model(settings: Settings, shards: "TokenShards") -> "CodeShellForCausalLM":
    """Makes the model, new or from weights.

    Args:
        settings: Names the architecture or the weights.
        shards: For the ids of special tokens.

    Returns:
        The model in float32, ready to train.

    Raises:
        CheckpointError: If the weights cannot be loaded.
        SettingsError: If the vocabulary does not fit.
    """
    import torch

    from codeshell_hf import CodeShellForCausalLM
    from codeshell_hf.errors import SettingsError
    from codeshell_hf.presets import make_config
    from codeshell_hf.train.weights import load_model

    if settings.model.start_from is not None:
        model: CodeShellForCausalLM = load_model(settings.model.start_from, dtype=torch.float32)
    else:
        end = shards.header.end_of_text
        tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end)
        config = make_config(settings.model.preset, **(tokens | settings.model.changes))
        model = CodeShellForCausalLM(config)
    if shards.header.vocab_size > model.config.vocab_size:
        raise SettingsError(
            f"the shards' vocabulary has {shards.header.vocab_size} entries, but the embedding has "
            f"{model.config.vocab_size} rows; set model.changes.vocab_size to {shards.header.vocab_size} or more"
        )
    longest = max(phase.row_tokens for phase in settings.schedule.phases)
    if longest > model.config.n_positions:
        raise SettingsError(
            f"schedule.phases has rows of {longest} tokens, but the model has {model.config.n_positions} positions; "
            f"set model.changes.n_positions to {longest} or shorten the rows"
        )
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    return model.train()


def read_step(
    rows: "Rows", consumed: int, global_tokens: int, micro_tokens: int, rank: int, ranks: int
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


def count_labels(batches: "list[Batch]", accelerator: "Accelerator") -> int:
    """Counts what a step predicts, over all ranks.

    Args:
        batches: This rank's.
        accelerator: Adds the ranks up.

    Returns:
        Number of labels behind the first position of a row that are not ignored.
    """
    import torch

    own = sum(int((batch.labels[:, 1:] != -100).sum()) for batch in batches)
    return int(accelerator.reduce(torch.tensor(own, device=accelerator.device), reduction="sum"))


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


def skip_sync(accelerator: "Accelerator", model: Any, *, is_last: bool) -> Any:
    """Lets ranks exchange gradients once a step.

    Args:
        accelerator: Knows how.
        model: The prepared model.
        is_last: Whether this is the step's last micro-batch.

    Returns:
        A context.
    """
    from contextlib import nullcontext

    return nullcontext() if is_last else accelerator.no_sync(model)


def clip(model: "torch.nn.Module", max_norm: float | None) -> float:
    """Scales gradients down.

    Args:
        model: Has gradients.
        max_norm: Longest, or `None` to measure alone.

    Returns:
        The norm before.
    """
    import torch

    return float(torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm if max_norm else math.inf))


class StopSignal:
    """Whether the scheduler asked to stop, known to all ranks alike."""

    def __init__(self) -> None:
        self.was_asked = False
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        self.was_asked = True

    def is_set(self, accelerator: "Accelerator") -> bool:
        """Asks all ranks.

        Args:
            accelerator: Reaches them.

        Returns:
            True on all if one was asked.
        """
        import torch

        asked = torch.tensor(int(self.was_asked), device=accelerator.device)
        return bool(accelerator.reduce(asked, reduction="sum"))


@dataclass
class HeldOut:
    """Documents that nothing is trained on."""

    documents: list[tuple[str, Any, int]]
    window_tokens: int
    vocab_size: int
    log: "Log"
    accelerator: "Accelerator"

    def measure(self, model: Any, progress: "Progress") -> None:
        """Measures bits per byte by language and writes them to the log.

        Args:
            model: The model.
            progress: Where the run is.
        """
        from codeshell_hf.evaluate.bits_per_byte import score_documents

        model.eval()
        scores = score_documents(model, self.documents, window_tokens=self.window_tokens, vocab_size=self.vocab_size)
        model.train()
        bits = {name: round(score.bits_per_byte, 4) for name, score in scores.items()}
        self.log.add({"step": progress.step, "tokens": progress.tokens, "bits_per_byte": bits})
        self.accelerator.print(f"step {progress.step:>6} | held-out bits per byte {bits['all']:.3f}")


def read_held_out(settings: Settings, log: "Log", accelerator: "Accelerator") -> HeldOut:
    """Reads the held-out documents.

    Args:
        settings: How much.
        log: Where measures go.
        accelerator: Prints once.

    Returns:
        The documents.
    """
    from codeshell_hf.evaluate.bits_per_byte import take_evenly
    from codeshell_hf.pack.shards import TokenShards

    shards = TokenShards((settings.evaluation.shards or settings.shards) / "held-out")
    chosen = take_evenly(
        shards.languages, shards.bytes.tolist(), max_bytes_per_language=settings.evaluation.max_bytes_per_language
    )
    documents = [(shards.languages[index], shards[index], int(shards.bytes[index])) for index in chosen]
    window = max(phase.row_tokens for phase in settings.schedule.phases)
    return HeldOut(documents, window, shards.header.vocab_size, log, accelerator)


def show_bar(steps: int, done: int) -> Any:
    """Makes the progress bar.

    Args:
        steps: Of the run.
        done: Already.

    Returns:
        A tqdm bar, silent on other ranks.
    """
    from tqdm import tqdm

    return tqdm(total=steps, initial=done, desc="pretrain", unit="step", disable=not is_first_rank())


def report(settings: Settings, work: Work, log: "Log", rows: "Rows", progress: "Progress", held_out: HeldOut) -> None:
    """Fills counts, measures, the loss curve and the last lines.

    Args:
        settings: The settings.
        work: What to fill.
        log: The run's record.
        rows: Know the epochs.
        progress: The end.
        held_out: Knows how much was measured on.
    """
    from codeshell_hf.publish.figures import draw_loss, save_figure

    steps = [entry for entry in log.entries if "loss" in entry]
    bits = [entry["bits_per_byte"] for entry in log.entries if "bits_per_byte" in entry]
    seconds = steps[-1]["elapsed_s"]
    work.counts = {
        "steps": progress.step,
        "tokens": progress.tokens,
        "epochs": round(rows.count_epochs(progress.tokens), 4),
        "held_out_documents": len(held_out.documents),
    }
    work.measures = {
        "loss_first": steps[0]["loss"],
        "loss_last": sum(entry["loss"] for entry in steps[-20:]) / len(steps[-20:]),
        "bits_per_byte_before": bits[0],
        "bits_per_byte_after": bits[-1],
        "tokens_per_s": round(progress.tokens / seconds, 1) if seconds else None,
        "training_s": round(seconds, 1),
    }
    save_figure(draw_loss(log.entries), work.folder / "loss.svg")
    work.report.append(
        f"loss {work.measures['loss_first']:.3f} -> {work.measures['loss_last']:.3f} over {progress.tokens:,} tokens "
        f"({work.counts['epochs']:.2f} epochs) at {work.measures['tokens_per_s']:,.0f} tokens/s"
    )
    work.report.append(f"held-out bits per byte {bits[0]['all']:.3f} -> {bits[-1]['all']:.3f}")


STAGE = Stage(
    name="pretrain",
    settings=Settings,
    inputs=lambda settings: {
        "shards": settings.shards,
        "tokenizer": settings.tokenizer,
        **({"held-out shards": settings.evaluation.shards} if settings.evaluation.shards else {}),
    },
    run=run,
    code=(
        "src/codeshell_hf/pack",
        "src/codeshell_hf/train",
        "src/codeshell_hf/presets.py",
        "src/codeshell_hf/modeling_codeshell.py",
        "src/codeshell_hf/configuration_codeshell.py",
    ),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
