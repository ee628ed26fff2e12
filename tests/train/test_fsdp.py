"""FSDP2 on one process: what is sharded there takes the steps of the plain engine."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch.distributed.tensor import DTensor

from codeshell_hf import CodeShellConfig, CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.errors import SettingsError
from codeshell_hf.train.engine import Engine, EngineOptions, make_engine
from codeshell_hf.train.fsdp import ShardedEngine
from codeshell_hf.train.settings import OptimizerSettings
from codeshell_hf.train.sharding import Sharding
from recipes.with_accelerate import join_ranks
from tests.train.steps import step_by_hand

ADAMW = OptimizerSettings(learning_rate=1e-2, max_gradient_norm=None)
MakeConfig = Callable[..., CodeShellConfig]


def whole(engine: Engine) -> dict[str, torch.Tensor]:
    weights = engine.model.named_parameters()
    return {name: (w.full_tensor() if isinstance(w, DTensor) else w).detach().clone() for name, w in weights}


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def pair(request: pytest.FixtureRequest, make_config: MakeConfig) -> Iterator[tuple[Engine, Engine]]:
    """A sharded engine and a plain one of the same seed."""
    config = make_config(tie_word_embeddings=request.param)
    with join_ranks() as ranks:
        options = [EngineOptions(sharding=sharding) for sharding in (Sharding("fsdp2"), Sharding())]
        sharded, plain = (make_engine(config, ADAMW, some, device=ranks.device, seed=3) for some in options)
        yield sharded, plain


def test_new_weights_are_those_of_the_plain_engine_and_frequencies_are_set(pair: tuple[Engine, Engine]) -> None:
    sharded, plain = pair

    assert isinstance(sharded, ShardedEngine)
    assert all(isinstance(parameter, DTensor) for parameter in sharded.model.parameters())
    assert str(sharded) == "FSDPTrainedModel of DTensor"
    expected = whole(plain)
    assert whole(sharded).keys() == expected.keys()
    assert all(torch.equal(weight, expected[name]) for name, weight in whole(sharded).items())
    by_hand = [10_000 ** (-place / 8) for place in range(0, 8, 2)]  # of heads of 32 / 4
    assert sharded.model.transformer.rotary_emb.inv_freq.tolist() == pytest.approx(by_hand)


def test_a_step_over_two_micro_batches_is_adamws(pair: tuple[Engine, Engine]) -> None:
    sharded, plain = pair
    rows = torch.randint(1, 320, (2, 1, 16), generator=torch.Generator().manual_seed(0))
    gradients = {}
    for engine in (plain, sharded):
        for place, ids in enumerate(rows):
            engine.backward(engine.module(input_ids=ids, labels=ids) / 30, is_last=place == 1)
        if engine is plain:
            gradients = {name: parameter.grad.clone() for name, parameter in plain.model.named_parameters()}
    expected = step_by_hand(whole(plain), gradients, learning_rate=1e-2)

    norms = [engine.step(1.0, lambda norm: True)[0] for engine in (sharded, plain)]

    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    for name, weight in whole(sharded).items():
        torch.testing.assert_close(weight, expected[name], atol=2e-5, rtol=1e-4)


def test_a_saved_model_is_whole(
    pair: tuple[Engine, Engine], tiny_tokenizer: CodeShellTokenizer, tmp_path: Path
) -> None:
    sharded, plain = pair
    ids = torch.arange(1, 9)[None]

    sharded.save_whole(tmp_path, tiny_tokenizer)

    with torch.no_grad():
        assert torch.equal(CodeShellForCausalLM.from_pretrained(tmp_path)(ids).logits, plain.model.eval()(ids).logits)


def test_a_sharded_run_starts_from_a_folder(
    tiny_model: Callable[..., CodeShellForCausalLM], make_config: MakeConfig, tmp_path: Path
) -> None:
    start = tiny_model(seed=5)
    start.save_pretrained(tmp_path)

    with join_ranks() as ranks:
        options = EngineOptions(sharding=Sharding("fsdp2"))
        engine = make_engine(make_config(), ADAMW, options, device=ranks.device, seed=0, start_from=str(tmp_path))

        assert all(torch.equal(weight, start.state_dict()[name]) for name, weight in whole(engine).items())


def test_ranks_that_do_not_divide_into_replicas_are_an_error(make_config: MakeConfig) -> None:
    with join_ranks() as ranks:
        options = EngineOptions(sharding=Sharding("fsdp2", replicas=2))
        with pytest.raises(SettingsError, match="1 ranks do not make 2 replicas; set a divisor"):
            make_engine(make_config(), ADAMW, options, device=ranks.device, seed=0)
