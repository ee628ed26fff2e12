"""Predicted speed, against what was measured and what others have published; communication counted by hand."""

import pytest

from codeshell_hf import CodeShellConfig
from codeshell_hf.presets import count_parameters, make_config
from codeshell_hf.train.memory import Layout
from codeshell_hf.train.speed import Traffic, count_traffic, predict_token_s, time_step
from codeshell_hf.train.throughput import DEVICES

A100, H100 = DEVICES["a100-80g"], DEVICES["h100-80g"]


@pytest.mark.parametrize(
    ("attention", "row_tokens", "measured"),  # tokens per second of one H100, benchmarks/README.md
    [("varlen", 2048, 60_036), ("varlen", 8192, 43_065), ("varlen_fa4", 2048, 63_202), ("varlen_fa4", 8192, 53_085)],
)
def test_what_was_measured_on_an_h100_is_predicted(attention: str, row_tokens: int, measured: float) -> None:
    layout = Layout("ddp", 3, 1, micro_tokens=16_384)

    seconds = predict_token_s(make_config("codeshell-small"), row_tokens, layout, H100, attention)

    assert 1 / seconds == pytest.approx(measured, rel=0.02)


@pytest.mark.parametrize(
    ("width", "layers", "heads", "inner", "tokens", "gpu_hours"),
    [
        (4096, 32, 32, 11_008, 1.0e12, 82_432),
        (5120, 40, 40, 13_824, 1.0e12, 135_168),
        (6656, 60, 52, 17_920, 1.4e12, 530_432),
        (8192, 80, 64, 22_016, 1.4e12, 1_022_362),
    ],
)
def test_llamas_published_gpu_hours_are_predicted(  # arXiv:2302.13971, tables 2 and 15; A100 of 80 GB, rows of 2,048
    width: int, layers: int, heads: int, inner: int, tokens: float, gpu_hours: float
) -> None:
    config = CodeShellConfig(
        vocab_size=32_000, n_embd=width, n_layer=layers, n_head=heads, num_query_groups=heads, n_inner=inner,
        n_positions=2048, activation_function="swiglu", tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    layout = Layout("fsdp2", 3, 2048, micro_tokens=2048, recomputes=True)

    hours = predict_token_s(config, 2048, layout, A100, "varlen") * tokens / 3600

    assert hours == pytest.approx(gpu_hours, rel=0.11)


@pytest.mark.parametrize(("row_tokens", "measured"), [(2048, 3200), (8192, 2600)])
def test_the_reports_own_speed_is_near(row_tokens: int, measured: float) -> None:  # arXiv:2403.15747, GPUs not named
    layout = Layout("fsdp2", 3, 120, micro_tokens=16_384, recomputes=True)

    assert 1 / predict_token_s(make_config("codeshell-7b"), row_tokens, layout, A100, "varlen") == pytest.approx(
        measured, rel=0.12
    )


def test_traffic_is_what_rings_send() -> None:
    config = make_config("codeshell-small")
    numbers = count_parameters(config)

    def count(**given: object) -> Traffic:
        return count_traffic(config, Layout(**{"stage": 3, "ranks": 4, "micro_tokens": 2048} | given))  # type: ignore[arg-type]

    # A ring of n sends (n - 1) / n of what it gathers or scatters, and twice that of what it reduces for all.
    assert count(kind="ddp") == Traffic(0.0, pytest.approx(2 * 0.75 * 4 * numbers), 4)
    # Two gathers in bfloat16 and gradients in float32; without resharding one gather.
    assert count(kind="fsdp2").per_pass == pytest.approx(0.75 * (2 * 2 + 4) * numbers)
    assert count(kind="fsdp2", reshards=False).per_pass == pytest.approx(0.75 * (2 + 4) * numbers)
    assert count(kind="fsdp2", is_bf16=False).per_pass == pytest.approx(0.75 * (2 * 4 + 4) * numbers)
    # Two replicas of two shards: half of each number is sent within, and the halves are reduced between replicas.
    assert count(kind="fsdp2", replicas=2) == Traffic(
        pytest.approx(0.5 * 8 * numbers), 0.0, 2, pytest.approx(4 / 2 * numbers)
    )
    assert count(kind="zero").per_pass == pytest.approx(0.75 * 3 * 2 * numbers)
    assert count(kind="zero", stage=2) == Traffic(
        pytest.approx(0.75 * 2 * numbers), pytest.approx(0.75 * 2 * numbers), 4
    )
    assert count(kind="fsdp2", ranks=1) == Traffic(0.0, 0.0, 1)


def test_tensors_send_positions_and_contexts_send_keys_within_each_block() -> None:
    """codeshell-small: 24 blocks, width 2,048, 4 groups of 128; on 8 GPUs, of which 4 compute the same rows."""
    config = make_config("codeshell-small")
    ends = config.vocab_size * 2048
    blocks = count_parameters(config) - ends

    def count(**given: object) -> Traffic:
        return count_traffic(config, Layout(**{"kind": "fsdp2", "stage": 3, "ranks": 8, "micro_tokens": 4096} | given))  # type: ignore[arg-type]

    found = count(tensor=2, context=2)

    # Halves of the blocks over four GPUs, ends over eight; bfloat16 twice, and gradients in float32.
    assert found.per_pass == pytest.approx(8 * (blocks / 2 * 3 / 4 + ends * 7 / 8))
    # 2,048 positions; a gather and a scatter around attention and MLP each, and back, of which half is sent.
    assert found.in_tensors == pytest.approx(24 * 8 * 2048 * 2048 / 2 * 2)
    # Of 4,096 positions keys and values of two groups, and their gradients; half of them are here.
    assert found.in_contexts == pytest.approx(24 * 2 * 4096 * 2 * 2 * 128 / 2 * 2)
    again = count(tensor=2, context=2, recomputes=True)
    assert (again.in_tensors, again.in_contexts) == (1.5 * found.in_tensors, 1.5 * found.in_contexts)
    assert (count().in_tensors, count().in_contexts) == (0.0, 0.0)


def test_what_is_sent_within_blocks_is_not_hidden() -> None:
    traffic = Traffic(300e9, 0.0, 16, in_tensors=300e9, in_contexts=50e9)  # 12 s hidden behind a pass of 15; 1 and 2

    step = time_step(
        traffic, Layout("fsdp2", 3, 16, micro_tokens=2048, tensor=8, context=2), A100, pass_s=15.0, passes=2
    )

    assert (step.whole, step.communication) == pytest.approx((2 * 18.0, 2 * 15.0))


@pytest.mark.parametrize(
    ("traffic", "ranks", "network", "whole"),
    [
        (Traffic(300e9, 0.0, 8), 8, None, 2 * 3.0),  # a second over NVLink, hidden behind 3
        (Traffic(100e9, 0.0, 16), 16, None, 2 * 4.0),  # 4 seconds over the network, more than a pass
        (Traffic(100e9, 0.0, 16), 16, 50.0, 2 * 3.0),
        (Traffic(100e9, 0.0, 8), 16, None, 2 * 3.0),  # shards within a node
        (Traffic(300e9, 0.0, 8, 75e9), 16, None, 2 * 4.0),  # a second within a node, and 3 between replicas
        (Traffic(0.0, 100e9, 16), 16, None, 2 * 3.0 + 2.0),  # 4 seconds beside a backward pass of 2
        (Traffic(0.0, 100e9, 8), 8, None, 2 * 3.0),
    ],
)
def test_communication_is_hidden_behind_passes_or_adds_to_them(
    traffic: Traffic, ranks: int, network: float | None, whole: float
) -> None:
    layout = Layout("fsdp2", 3, ranks, micro_tokens=2048)

    step = time_step(traffic, layout, A100, pass_s=3.0, passes=2, network_gb_s=network)

    assert step.arithmetic == 6.0
    assert step.whole == pytest.approx(whole)
