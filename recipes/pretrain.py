"""Pretrains a model on token shards, with everything counted in tokens.

codeshell pretrain recipes/nano/pretrain.yaml
accelerate launch --config_file recipes/accelerate/fsdp2.yaml -m recipes.pretrain recipes/codeshell-small/pretrain.yaml
torchrun --nproc-per-node 2 -m recipes.pretrain recipes/nano/pretrain.yaml accelerate=recipes/accelerate/fsdp2.yaml
"""

import sys
from pathlib import Path
from typing import Literal

from pydantic import Field

from codeshell_hf.pack.settings import DataSettings
from codeshell_hf.settings import PrecisionSettings
from codeshell_hf.stages.precision_choice import resolve_precision
from codeshell_hf.stages.stage import Stage, StageSettings, Work, main
from codeshell_hf.train.settings import (
    BatchSettings,
    CheckpointSettings,
    ComputeSettings,
    EvaluationSettings,
    GuardSettings,
    ModelSettings,
    OptimizerSettings,
    ScheduleSettings,
)

ROOT = Path(__file__).parents[1]


class Settings(StageSettings, PrecisionSettings, ComputeSettings, DataSettings):
    """Settings of pretraining."""

    model: ModelSettings = Field(description="the model")
    batch: BatchSettings = Field(description="batches")
    schedule: ScheduleSettings = Field(description="schedule")
    optimizer: OptimizerSettings = Field(description="optimiser")
    checkpoint: CheckpointSettings = Field(default_factory=CheckpointSettings, description="checkpoints")
    guard: GuardSettings = Field(default_factory=GuardSettings, description="guard")
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings, description="evaluation")
    accelerate: Path | None = Field(default=None, description="accelerate's file, for processes started by torchrun")
    trackers: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = Field(default=(), description="besides the log")
    peak_tflops: float | None = Field(
        default=None, gt=0, description="a device's peak, for MFU; null: from a table of devices"
    )
    log_every_steps: int = Field(default=50, gt=0, description="steps between printed lines")
    seed: int = Field(default=0, ge=0, description="of weights, order and infilling")


def run(settings: Settings, work: Work) -> None:
    """Trains, evaluates before and after, and saves the model with its tokenizer."""
    import torch
    from tqdm import tqdm

    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.errors import Interrupted
    from codeshell_hf.pack.row_stream import open_rows, read_step
    from codeshell_hf.presets import count_parameters
    from codeshell_hf.publish.figures import save_run
    from codeshell_hf.train.background_evaluation import BackgroundEvaluation
    from codeshell_hf.train.checkpoint import Checkpoints, Run
    from codeshell_hf.train.engine import EngineOptions, make_engine
    from codeshell_hf.train.evaluation import RunEvaluation
    from codeshell_hf.train.guard import Guard
    from codeshell_hf.train.model import configure_model
    from codeshell_hf.train.muon import orthogonalize
    from codeshell_hf.train.report import describe_rounding, describe_start, summarize_run
    from codeshell_hf.train.rollback import roll_back
    from codeshell_hf.train.run_log import Log, Progress
    from codeshell_hf.train.schedule import check_epochs, plan_steps, scale_learning_rate
    from codeshell_hf.train.sharding import check_model, read_sharding
    from codeshell_hf.train.step import accumulate_gradients, read_later, seed_dropout
    from codeshell_hf.train.stop_signal import StopSignal, stop_early
    from codeshell_hf.train.throughput import cost_token, find_peak_tflops
    from codeshell_hf.train.trackers import Trackers
    from recipes.with_accelerate import join_ranks, start_tracker

    batch, schedule, evaluated, seed = settings.batch, settings.schedule, settings.evaluation, settings.seed
    sharding, requested = read_sharding(settings.accelerate, precision=settings.precision)
    with join_ranks() as joined:
        # The data, and the batch size; ranks that compute the same rows together are one reader.
        ranks = joined.join(sharding.together)
        reader = ranks.readers
        steps = plan_steps(batch, schedule, reader.count)
        if steps.tokens != batch.global_tokens:
            ranks.print(describe_rounding(batch, steps.tokens, reader.count))
        rows = open_rows(settings, steps.phases, seed=seed)
        check_epochs(rows.count_epochs(schedule.total_tokens), schedule)

        # The model, sharded as accelerate's file says.
        torch.manual_seed(seed)
        tokenizer = CodeShellTokenizer.from_pretrained(settings.tokenizer)
        config = configure_model(settings.model, tokenizer, longest_row=max(schedule.row_lengths))
        check_model(config, sharding, schedule.row_lengths)
        precision = resolve_precision(
            requested, lambda: config, work, trains=True, record_folder=work.folder / "checkpoints",
            orthogonalize=orthogonalize if settings.optimizer.name == "muon" else None,
        )  # fmt: skip
        options = EngineOptions(settings, precision, batch.micro_tokens // schedule.row_lengths[0], sharding)
        engine = make_engine(
            config, settings.optimizer, options,
            device=ranks.device, seed=seed, start_from=settings.model.start_from,
        )  # fmt: skip
        ranks.print(describe_start(count_parameters(config), engine, sharding, ranks, steps.count, steps.tokens))

        # The run's state: at the start, or at the last complete checkpoint.
        progress, guard = Progress(), Guard(settings.guard)
        state = Run(progress, guard, steps, precision.compute_dtype)
        peak = None if steps.decay_start is None else steps.decay_start // steps.tokens
        checkpoints = Checkpoints(work.folder / "checkpoints", engine, settings.checkpoint, peak=peak)
        if checkpoints.resume(state):
            ranks.print(f"resumes at step {progress.step} of {steps.count}")

        # Evaluation and logging.
        stop = StopSignal()
        log = Log(work.folder / "log.jsonl", progress.step, is_writer=ranks.is_first)
        values = settings.model_dump(mode="json")
        trackers = Trackers(settings.trackers if ranks.is_first else (), start_tracker, work.folder, values)
        command = (sys.executable, "-m", "recipes.evaluate")
        benchmarks = BackgroundEvaluation(
            command, ROOT, evaluated.benchmarks, work.folder, log, ranks, keep=evaluated.keep_exports
        )
        evaluation = RunEvaluation(
            evaluated, settings.shards, row_tokens=max(schedule.row_lengths),
            benchmarks=benchmarks, folder=work.folder, log=log, trackers=trackers, ranks=ranks, stop=stop,
        )  # fmt: skip
        evaluation.make_up(engine, tokenizer, progress, is_last=progress.step == steps.count)

        log.start_clock()
        peak_tflops = settings.peak_tflops or find_peak_tflops(ranks.device)
        bar = tqdm(total=steps.count, initial=progress.step, desc="pretrain", unit="step", disable=not ranks.is_first)
        with bar:
            while progress.step < steps.count:
                row_tokens = rows.find_row_tokens(progress.tokens)
                if log.row_tokens not in (None, row_tokens):
                    evaluation.log_loss_by_position(engine, progress)  # the last with rows of the old length
                batches = read_step(rows, progress.tokens, steps.tokens, batch.micro_tokens, reader.rank, reader.count)
                seed_dropout(seed, progress.step, ranks.rank)
                try:
                    read_loss = read_later(accumulate_gradients(engine, batches, ranks, lambda: stop.is_received))
                except Interrupted:  # between two micro-batches: the step is done again
                    benchmarks.stop()
                    stop_early(checkpoints, state, steps.count)
                progress.step, progress.tokens = progress.step + 1, progress.tokens + steps.tokens
                norm, is_taken = engine.step(scale_learning_rate(schedule, progress.tokens), guard.allows)

                # Combines what each rank knows: its loss, a stop signal, whether its checkpoint is written.
                agreed = ranks.all_reduce_sum(read_loss(), stop.is_received, checkpoints.is_written())
                loss, is_stopping, written = agreed[0], agreed[1] > 0, agreed[2]
                if written == ranks.count:
                    checkpoints.commit()
                is_last = progress.step == steps.count
                log.add_step(progress, loss, norm, engine.learning_rate, row_tokens, is_taken=is_taken)
                bar.update()
                if progress.step % settings.log_every_steps == 0 or is_last:
                    cost = cost_token(config, row_tokens)
                    bar.write(log.format_line(steps.count, steps.tokens, cost, peak_tflops, ranks.count))
                    trackers.log(log.last_measures(steps.tokens), progress.step)

                if guard.wants_rollback:
                    roll_back(checkpoints, guard, progress, norm, ranks)
                if checkpoints.is_due(progress.step) or is_last:
                    checkpoints.save(state)
                is_stopping = evaluation.after_step(engine, tokenizer, progress, is_last=is_last) or is_stopping
                if is_stopping and not is_last:
                    benchmarks.stop()
                    stop_early(checkpoints, state, steps.count)

        checkpoints.commit()
        if evaluation.finish(engine, progress, by_position=len(schedule.phases) > 1):
            stop_early(checkpoints, state, steps.count)
        engine.save_whole(work.folder / "model", tokenizer)
        benchmarks.finish(trackers)  # the first rank's alone, so after what all do together
        trackers.finish()

        if ranks.is_first:
            report = summarize_run(
                log.entries, epochs=rows.count_epochs(progress.tokens), skipped_steps=guard.skipped,
                held_out_documents=len(evaluation.split.chosen), attention=engine.attention,
            )  # fmt: skip
            work.counts, work.measures, work.report = report.counts, report.measures, report.lines
            save_run([dict(entry) for entry in log.entries], max(schedule.row_lengths), work.folder)


STAGE = Stage(
    name="pretrain",
    settings=Settings,
    run=run,
    checkpoint_globs=("checkpoints/step-*", "checkpoints/broken-step-*"),  # broken ones can be restored
    # What does not change the result, what a diverged run needs, and the length of the run.
    changeable_on_resume=(
        "schedule.total_tokens", "schedule.phases", "schedule.decay", "schedule.decay_fraction", "schedule.max_epochs",
        "batch.micro_tokens", "checkpoint", "guard", "optimizer.learning_rate", "optimizer.matrix_learning_rate",
        "evaluation", "gradient_checkpointing", "compiles", "attention", "accelerate",
        "trackers", "peak_tflops", "log_every_steps",
    ),
    extended_by=("schedule.total_tokens",),
    kept_globs=("log.jsonl", "checkpoints/precision.json", "exports", "benchmarks"),
    saves_on_signal=True,
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(STAGE))
