"""What a run prints of itself, and the report on it."""

import torch

from codeshell_hf.train.attention_choice import AttentionTrial
from codeshell_hf.train.engine import Engine
from codeshell_hf.train.ranks import Ranks
from codeshell_hf.train.report import describe_rounding, describe_start, summarize_run
from codeshell_hf.train.run_log import Entry
from codeshell_hf.train.settings import BatchSettings
from codeshell_hf.train.sharding import Sharding


def test_a_run_says_how_it_trains_and_when_its_steps_are_of_another_size(engine: Engine) -> None:
    cpu, sharding = torch.device("cpu"), Sharding("zero", stage=3)

    one = describe_start(1_234_567, engine, sharding, Ranks(cpu, 0, 1), 2_000, 65_536)
    engine.attention, engine.attention_trials = "varlen", [AttentionTrial("varlen", 2.0)]
    two = describe_start(1_234_567, engine, sharding, Ranks(cpu, 0, 2), 2_000, 65_536)

    assert one == (
        "1,234,567 parameters by one process (TrainedModel of Parameter), 2,000 steps of 65,536 tokens on 1 cpu "
        "process, attention by sdpa"
    )
    assert two == (
        "1,234,567 parameters by ZeRO-3 (TrainedModel of Parameter), 2,000 steps of 65,536 tokens on 2 cpu "
        "processes, attention by varlen (varlen 2.0 ms)"
    )
    assert describe_rounding(BatchSettings(global_tokens=2_500_000, micro_tokens=20_480), 2_621_440, 128) == (
        "batch.global_tokens 2,500,000 are not a multiple of 128 x 20,480: steps have 2,621,440"
    )


def test_a_report_has_the_first_loss_the_mean_of_the_last_and_bits_before_and_after() -> None:
    steps: list[Entry] = [{"step": n, "tokens": 10 * n, "loss": float(n), "elapsed_s": n / 2} for n in range(1, 31)]
    measured: list[Entry] = [{"step": 0, "bits_per_byte": {"all": 4.0}}, {"step": 30, "bits_per_byte": {"all": 3.0}}]

    report = summarize_run(
        [measured[0], *steps, measured[1]], epochs=0.123456, held_out_documents=5, skipped_steps=2, attention="sdpa"
    )

    assert report.counts == {
        "steps": 30, "tokens": 300, "epochs": 0.1235, "held_out_documents": 5, "skipped_steps": 2, "attention": "sdpa"
    }  # fmt: skip
    assert report.measures["loss_first"] == 1.0
    assert report.measures["loss_last"] == sum(range(11, 31)) / 20
    assert (report.measures["tokens_per_s"], report.measures["training_s"]) == (20.0, 15.0)
    assert report.lines == [
        "loss 1.000 -> 20.500 over 300 tokens (0.12 epochs) at 20 tokens/s",
        "2 steps were skipped because of their gradient norms",
        "held-out bits per byte 4.000 -> 3.000",
    ]
