"""An engine of one process."""

from collections.abc import Callable, Iterator

import pytest

from codeshell_hf import CodeShellConfig
from codeshell_hf.train.engine import Engine, EngineOptions, make_engine
from codeshell_hf.train.settings import OptimizerSettings
from recipes.with_accelerate import join_ranks


@pytest.fixture
def engine(make_config: Callable[..., CodeShellConfig]) -> Iterator[Engine]:
    with join_ranks() as ranks:
        settings = OptimizerSettings(learning_rate=1e-2)
        yield make_engine(make_config(), settings, EngineOptions(), device=ranks.device, seed=3)
