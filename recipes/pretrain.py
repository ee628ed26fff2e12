"""Pretrains a model on token shards: the one training loop, counted in tokens.

python -m recipes.pretrain recipes/nano/pretrain.yaml
accelerate launch --config_file recipes/accelerate/fsdp2.yaml -m recipes.pretrain recipes/codeshell-small/pretrain.yaml
torchrun --nproc-per-node 2 -m recipes.pretrain recipes/nano/pretrain.yaml accelerate=recipes/accelerate/fsdp2.yaml
"""

import math
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from codeshell_hf.stages.numerics import settle_precision
from codeshell_hf.stages.stage import Stage, Work, is_first_rank, main
from recipes.benchmarks_aside import BenchmarksAside
from recipes.pretraining import (
    Settings,
    StopSignal,
    check_step,
    choose_step,
    count_labels,
    make_config,
    open_rows,
    read_step,
    to_tensors,
)
from recipes.record import Trackers, read_held_out, report, show_bar

if TYPE_CHECKING:
    import torch

    from codeshell_hf.pack.rows import Batch
    from codeshell_hf.train.checkpoint import Checkpoints
    from codeshell_hf.train.guard import Guard
    from codeshell_hf.train.progress import Progress
    from codeshell_hf.train.sharding import Engine
    from recipes.launcher import Ranks


def run(settings: Settings, work: Work) -> None:
    """Trains, measures before and after, and saves the model with its tokenizer.

    Args:
        settings: What to train, on what, how.
        work: Where to write.
    """
    import torch

    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.errors import Interrupted
    from codeshell_hf.presets import count_parameters
    from codeshell_hf.train.checkpoint import Checkpoints
    from codeshell_hf.train.guard import Guard
    from codeshell_hf.train.optimizer import OptimizerOptions, orthogonalize
    from codeshell_hf.train.progress import Log, Progress
    from codeshell_hf.train.schedule import LearningRate
    from codeshell_hf.train.sharding import Start, StepOptions, make_engine
    from codeshell_hf.train.throughput import cost_token, find_peak_tflops
    from recipes.launcher import join_ranks, read_sharding

    sharding, asked = read_sharding(settings.accelerate, precision=settings.precision)
    with join_ranks() as ranks:
        # What is trained on, and how much of it at a time.
        micro_tokens, total = settings.batch.micro_tokens, settings.schedule.total_tokens
        step_tokens = choose_step(settings, ranks)
        tokenizer = CodeShellTokenizer.from_pretrained(settings.tokenizer)
        rows = open_rows(settings, tokenizer, step_tokens=step_tokens)
        steps = math.ceil(total / step_tokens)

        # The model, shared out as accelerate's file says.
        torch.manual_seed(settings.seed)
        config = make_config(settings, end_of_text=tokenizer.eos_token_id, vocab_size=len(tokenizer))
        schedule, optimizer = settings.schedule, settings.optimizer
        precision = settle_precision(
            *(asked, lambda: config, work),
            trains=True,
            kept=work.folder / "checkpoints",
            orthogonalize=orthogonalize if optimizer.name == "muon" else None,
        )
        engine = make_engine(
            config,
            Start(settings.seed, settings.model.start_from),
            OptimizerOptions(
                **optimizer.model_dump(exclude={"max_gradient_norm"}), orthogonalization=precision.orthogonalization
            ),
            StepOptions(
                max_norm=optimizer.max_gradient_norm,
                is_bf16=precision.is_bf16,
                recomputes=settings.gradient_checkpointing,
                compiles=settings.compiles,
                micro_rows=micro_tokens // schedule.phases[0].row_tokens,
            ),
            sharding,
            device=ranks.device,
        )
        rate = LearningRate(optimizer.learning_rate, schedule.floor_fraction, schedule.warmup_tokens, total)
        guard = Guard(settings.guard.max_norm_ratio, settings.guard.max_skips, settings.guard.warmup_steps)
        ranks.print(
            f"{count_parameters(config):,} parameters by {sharding if ranks.count > 1 else 'one process'} ({engine}), "
            f"{steps:,} steps of {step_tokens:,} tokens on {ranks.count} {ranks.device.type} process"
            f"{'es' if ranks.count > 1 else ''}"
        )

        # Where the run is: at its beginning, or at its last whole checkpoint.
        keep, keep_every = settings.checkpoint.keep, settings.checkpoint.keep_every_steps
        checkpoints = Checkpoints(work.folder / "checkpoints", engine, keep=keep, keep_every=keep_every)
        progress = Progress()
        if (about := checkpoints.load_latest()) is not None:
            progress = Progress(**about["progress"])
            check_step(about["step_tokens"], step_tokens)
            guard.restore(about["guard"])
            ranks.print(f"goes on at step {progress.step} of {steps}")
        log = Log(work.folder / "log.jsonl", progress.step, is_writer=is_first_rank())
        trackers = Trackers(settings.trackers, work.folder, settings.model_dump(mode="json"))
        held_out = read_held_out(settings, log, ranks)
        aside = BenchmarksAside(settings.evaluation, work.folder, log, ranks)
        if progress.step == 0:
            held_out.measure(engine, progress)

        stop, started = StopSignal(), time.monotonic()
        peak_tflops = settings.peak_tflops or find_peak_tflops(ranks.device)
        with show_bar(steps, progress.step) as bar:
            while progress.step < steps:
                row_tokens = rows.find_row_tokens(progress.tokens)
                if log.row_tokens not in (None, row_tokens):
                    held_out.measure_positions(engine, progress)  # the last look at rows of the old length
                batches = read_step(rows, progress.tokens, step_tokens, micro_tokens, ranks.rank, ranks.count)
                loss_sum = add_gradients(engine, batches, ranks)
                progress.step, progress.tokens = progress.step + 1, progress.tokens + step_tokens
                norm, is_taken = engine.step(rate.factor(progress.tokens), guard.allows)

                # Ranks agree on what each of them alone knows: the loss, a signal, a checkpoint that is written.
                told = ranks.add_up(float(loss_sum), stop.was_asked, checkpoints.is_written())
                loss_value, is_stopping = told[0], told[1] > 0
                if told[2] == ranks.count:
                    checkpoints.commit()
                log.step(
                    progress,
                    loss=loss_value,
                    gradient_norm=norm,
                    learning_rate=engine.learning_rate,
                    row_tokens=row_tokens,
                    elapsed_s=time.monotonic() - started,
                    **({} if is_taken else {"is_skipped": True}),
                )
                bar.update()
                if progress.step % settings.log_every_steps == 0 or progress.step == steps:
                    cost = cost_token(config, row_tokens)
                    bar.write(log.line(steps, step_tokens, cost, peak_tflops, ranks.count))
                    trackers.tell(log.last(step_tokens), progress.step)

                if guard.gives_up:
                    go_back(settings, checkpoints, guard, progress, norm)
                    ranks.print(f"step {progress.step:>6} | {settings.guard.max_skips} steps skipped: older weights")
                every = settings.evaluation.every_steps
                is_measuring = every is not None and progress.step % every == 0 and progress.step < steps
                is_due = progress.step % settings.checkpoint.every_steps == 0 or progress.step == steps
                if is_due or is_stopping:
                    about = {"progress": asdict(progress), "guard": guard.state(), "step_tokens": step_tokens}
                    about["precision"] = precision.arithmetic
                    checkpoints.save(progress.step, about)
                if is_measuring:
                    trackers.tell(held_out.measure(engine, progress), progress.step)
                    if settings.evaluation.exports:
                        engine.save_whole(work.folder / "exports" / f"step-{progress.step:08d}", tokenizer)
                aside.collect(trackers)
                if is_stopping and progress.step < steps:
                    checkpoints.commit()
                    aside.close()
                    raise Interrupted(f"saved step {progress.step} of {steps}; run the same command again to go on")

        checkpoints.commit()
        trackers.tell(held_out.measure(engine, progress), progress.step)
        if len(settings.schedule.phases) > 1:
            held_out.measure_positions(engine, progress)
        aside.finish(trackers)
        trackers.close()
        engine.save_whole(work.folder / "model", tokenizer)
        if is_first_rank():
            report(settings, work, log, rows, progress, held_out, guard)


def add_gradients(engine: "Engine", batches: "list[Batch]", ranks: "Ranks") -> "torch.Tensor":
    """Adds up the gradients of a step.

    Args:
        engine: Holds the model.
        batches: This rank's micro-batches.
        ranks: All that share the step.

    Returns:
        This rank's share of the step's loss, a scalar.
    """
    import torch

    # The sum over all labels of the step, whatever rank or micro-batch they are in, is divided once.
    items = count_labels(batches, ranks)
    loss_sum = torch.zeros((), device=ranks.device)
    for index, batch in enumerate(batches):
        is_last = index == len(batches) - 1
        with engine.hold_back(is_last=is_last):
            with engine.autocast():
                loss = engine.module(**to_tensors(batch, ranks.device)) / items
            engine.backward(loss, is_last=is_last)
        loss_sum += loss.detach()
    return loss_sum


def go_back(settings: Settings, checkpoints: "Checkpoints", guard: "Guard", progress: "Progress", norm: float) -> None:
    """Takes older weights; the data go on, for the same ones would do the same again.

    Args:
        settings: How often it may be done.
        checkpoints: Hold the weights.
        guard: Has skipped steps.
        progress: Counts the returns.
        norm: Of the last step's gradients.

    Raises:
        RunFailed: If it was done too often, or there are no older weights.
    """
    from codeshell_hf.errors import RunFailed

    if progress.returns == settings.guard.max_returns or checkpoints.load_latest() is None:
        raise RunFailed(
            f"{guard.on_end} steps on end were skipped by step {progress.step}, the last for a norm of {norm:g}; "
            "lower optimizer.learning_rate and run again"
        )
    progress.returns += 1
    guard.on_end = 0


STAGE = Stage(
    name="pretrain",
    settings=Settings,
    inputs=lambda settings: {
        "shards": settings.shards,
        "tokenizer": settings.tokenizer,
        **{f"mixture {number}": one.shards for number, one in enumerate(settings.mixture)},
        **({"held-out shards": settings.evaluation.shards} if settings.evaluation.shards else {}),
        **({"benchmarks": settings.evaluation.benchmarks} if settings.evaluation.benchmarks else {}),
    },
    run=run,
    kept="checkpoints/step-*",
    # How it is done, not what comes out.
    free=(
        "batch.micro_tokens",
        "checkpoint",
        "evaluation",
        "held-out shards",
        "benchmarks",
        "gradient_checkpointing",
        "compiles",
        "accelerate",
        "trackers",
        "peak_tflops",
        "log_every_steps",
    ),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
