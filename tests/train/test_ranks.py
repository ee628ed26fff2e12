"""Sums over ranks, and who prints."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from codeshell_hf.errors import SettingsError
from codeshell_hf.train.ranks import Ranks
from recipes.with_accelerate import join_ranks

# Each rank has its own numbers; tokens of a long run need more than the 24 bits of float32.
SUMS = """
import sys
import torch
import torch.distributed as dist
from codeshell_hf.train.ranks import Ranks
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
ranks = Ranks(torch.device("cpu"), rank, 2)
ranks.print("said once")
print(f"rank {rank}:", ranks.all_reduce_sum(2.0**40 + rank, -0.5, rank == 1))
dist.barrier()
dist.destroy_process_group()
"""


def test_two_ranks_sum_each_number_exactly_and_one_of_them_prints(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SUMS]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True, env=os.environ
        )
        for rank in range(2)
    ]

    printed = [process.communicate(timeout=120)[0].splitlines() for process in processes]

    sums = [2.0**41 + 1, -1.0, 1.0]
    assert printed == [["said once", f"rank 0: {sums}"], [f"rank 1: {sums}"]]


def test_one_process_is_the_first_and_its_sums_are_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with join_ranks() as ranks:
        assert ranks.all_reduce_sum(0.1, 2.0**53 - 1) == [0.1, 2.0**53 - 1]
        ranks.print("said")
    Ranks(torch.device("cpu"), 1, 2).print("not said")

    assert capsys.readouterr().out == "said\n"


def test_ranks_that_compute_the_same_rows_are_one_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ranks, "all_reduce_sum", lambda self, *values: [self.count * value for value in values])
    readers = [Ranks(torch.device("cpu"), rank, 6).join(2).readers for rank in range(6)]

    assert [reader.rank for reader in readers] == [0, 0, 1, 1, 2, 2]
    assert {reader.count for reader in readers} == {3}
    assert readers[4].all_reduce_sum(5.0, 0.5) == [15.0, 1.5]  # each of three groups once
    with pytest.raises(SettingsError, match="6 ranks do not make groups of 4, the product of tp and cp; start a mult"):
        Ranks(torch.device("cpu"), 0, 6).join(4)


def test_memory_of_a_gpu_is_expandable_unless_it_is_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "PYTORCH_CUDA_ALLOC_CONF"
    monkeypatch.setenv(name, "")
    monkeypatch.delenv(name)
    with join_ranks():
        assert os.environ[name] == "expandable_segments:True"
    monkeypatch.setenv(name, "max_split_size_mb:512")
    with join_ranks():
        assert os.environ[name] == "max_split_size_mb:512"
