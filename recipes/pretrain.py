"""Pretrains a model on token shards: the one training loop, counted in tokens.

python -m recipes.pretrain recipes/nano/pretrain.yaml
accelerate launch --config_file recipes/accelerate/fsdp2.yaml -m recipes.pretrain recipes/codeshell-small/pretrain.yaml
torchrun --nproc-per-node 2 -m recipes.pretrain recipes/nano/pretrain.yaml accelerate=recipes/accelerate/fsdp2.yaml
"""

import math
import sys
import time

from recipes.pretraining import (
    Settings,
    StopSignal,
    Trackers,
    count_labels,
    make_config,
    open_rows,
    read_held_out,
    read_step,
    report,
    show_bar,
    to_tensors,
)
from recipes.stage import Stage, Work, is_first_rank, main


def run(settings: Settings, work: Work) -> None:
    """Trains, measures before and after, and saves the model with its tokenizer.

    Args:
        settings: What to train, on what, how.
        work: Where to write.
    """
    import torch

    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.errors import Interrupted, RunFailed
    from codeshell_hf.presets import count_parameters
    from codeshell_hf.train.checkpoint import Checkpoints
    from codeshell_hf.train.guard import Guard
    from codeshell_hf.train.optimizer import OptimizerOptions
    from codeshell_hf.train.progress import Log, Progress
    from codeshell_hf.train.schedule import LearningRate, fit_batch
    from codeshell_hf.train.sharding import Start, StepOptions, make_engine
    from codeshell_hf.train.throughput import cost_token, find_peak_tflops
    from recipes.launcher import join_ranks, read_sharding

    sharding = read_sharding(settings.accelerate, precision=settings.precision)
    with join_ranks() as ranks:
        # What is trained on, and how much of it at a time.
        micro_tokens, total = settings.batch.micro_tokens, settings.schedule.total_tokens
        row_lengths = [phase.row_tokens for phase in settings.schedule.phases]
        step_tokens = fit_batch(
            settings.batch.global_tokens, micro_tokens=micro_tokens, row_lengths=row_lengths, ranks=ranks.count
        )
        if step_tokens != settings.batch.global_tokens:
            asked = f"batch.global_tokens {settings.batch.global_tokens:,}"
            ranks.print(f"{asked} do not divide into {ranks.count} x {micro_tokens:,}: takes {step_tokens:,}")
        tokenizer = CodeShellTokenizer.from_pretrained(settings.tokenizer)
        rows = open_rows(settings, tokenizer, step_tokens=step_tokens)
        steps = math.ceil(total / step_tokens)

        # The model, shared out as accelerate's file says.
        torch.manual_seed(settings.seed)
        config = make_config(settings, end_of_text=tokenizer.eos_token_id, vocab_size=len(tokenizer))
        schedule, optimizer = settings.schedule, settings.optimizer
        engine = make_engine(
            config,
            Start(settings.seed, settings.model.start_from),
            OptimizerOptions(**optimizer.model_dump(exclude={"max_gradient_norm"})),
            StepOptions(
                max_norm=optimizer.max_gradient_norm,
                is_bf16=settings.precision == "bf16",
                recomputes=settings.gradient_checkpointing,
                compiles=settings.compiles,
                micro_rows=micro_tokens // row_lengths[0],
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
        progress, returns = Progress(), 0
        if (about := checkpoints.load_latest()) is not None:
            progress = Progress(about["step"], about["tokens"])
            guard.restore(about["guard"])
            returns = about["returns"]
            ranks.print(f"goes on at step {progress.step} of {steps}")
        log = Log(work.folder / "log.jsonl", progress.step, is_writer=is_first_rank())
        trackers = Trackers(settings.trackers, work.folder, settings.model_dump(mode="json"))
        held_out = read_held_out(settings, log, ranks)
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
                    # The weights go back; the data do not, for they would do the same again.
                    if returns == settings.guard.max_returns or checkpoints.load_latest() is None:
                        raise RunFailed(
                            f"{guard.on_end} steps on end were skipped by step {progress.step}, the last for a gradient "
                            f"norm of {norm}; lower optimizer.learning_rate and run again"
                        )
                    returns, guard.on_end = returns + 1, 0
                    ranks.print(f"step {progress.step:>6} | {guard.max_skips} steps skipped: back to older weights")
                every = settings.evaluation.every_steps
                is_measuring = every is not None and progress.step % every == 0 and progress.step < steps
                is_due = progress.step % settings.checkpoint.every_steps == 0 or progress.step == steps
                if is_due or is_stopping:
                    state = {"step": progress.step, "tokens": progress.tokens, "returns": returns}
                    checkpoints.save(progress.step, state | {"guard": guard.state()})
                if is_measuring:
                    trackers.tell(
                        {f"bits_per_byte/{name}": bits for name, bits in held_out.measure(engine, progress).items()},
                        progress.step,
                    )
                    if settings.evaluation.exports:
                        folder = work.folder / "exports" / f"step-{progress.step:08d}"
                        engine.save_whole(folder)
                        if is_first_rank():
                            tokenizer.save_pretrained(folder)
                if is_stopping and progress.step < steps:
                    checkpoints.commit()
                    raise Interrupted(f"saved step {progress.step} of {steps}; run the same command again to go on")

        checkpoints.commit()
        bits = held_out.measure(engine, progress)
        if len(settings.schedule.phases) > 1:
            held_out.measure_positions(engine, progress)
        trackers.tell({f"bits_per_byte/{name}": value for name, value in bits.items()}, progress.step)
        trackers.close()
        engine.save_whole(work.folder / "model")
        if is_first_rank():
            tokenizer.save_pretrained(work.folder / "model")
            report(settings, work, log, rows, progress, held_out, guard)


STAGE = Stage(
    name="pretrain",
    settings=Settings,
    inputs=lambda settings: {
        "shards": settings.shards,
        "tokenizer": settings.tokenizer,
        **{f"mixture {number}": one.shards for number, one in enumerate(settings.mixture)},
        **({"held-out shards": settings.evaluation.shards} if settings.evaluation.shards else {}),
    },
    run=run,
    code=(
        "src/codeshell_hf/pack",
        "src/codeshell_hf/train",
        "src/codeshell_hf/presets.py",
        "src/codeshell_hf/modeling_codeshell.py",
        "src/codeshell_hf/configuration_codeshell.py",
        "recipes/pretraining.py",
        "recipes/launcher.py",
    ),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
