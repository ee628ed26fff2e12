"""Work shared by ranks: each does an equal part, and a sharded model is measured as a whole one."""

import json
from pathlib import Path

import pytest

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.align.reward_measurement import measure_rewards
from codeshell_hf.align.rewards import FormatReward, GuardedReward, WeightedReward
from codeshell_hf.align.shared_work import choose_share, gather_results
from codeshell_hf.text.chat import Conversation
from tests.warm import start

SHARDED = """
import json, sys
from pathlib import Path
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.align.shared_work import count_ranks
from recipes.with_accelerate import join_ranks
from tests.align.test_shared_work import measure
folder = Path(sys.argv[1])
with join_ranks():
    model = CodeShellForCausalLM.from_pretrained(folder)
    for block in model.transformer.h:
        fully_shard(block)
    fully_shard(model)
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    measured = measure(model, CodeShellTokenizer.from_pretrained(folder))
    (folder / f"measured-{count_ranks()[0]}.json").write_text(json.dumps(measured))
"""


def measure(model: CodeShellForCausalLM, tokenizer: CodeShellTokenizer) -> dict[str, list[float]]:
    """Five prompts, which two ranks do not share evenly, of answers that end at different lengths."""
    answer = {"role": "assistant", "content": "-"}
    conversations = [Conversation(({"role": "user", "content": "q" * size}, answer)) for size in (1, 9, 2, 30, 4)]
    rewards = [WeightedReward("format", 1.0, GuardedReward(FormatReward()))]
    sampling = {"per_prompt": 3, "max_new_tokens": 12, "temperature": 1.0, "batch_size": 6}
    return measure_rewards(model, tokenizer, conversations, rewards, seed=0, **sampling)


@pytest.mark.parametrize(("count", "ranks"), [(5, 2), (1, 4), (8, 4), (3, 3)])
def test_every_item_is_done_and_every_rank_does_as_many(
    count: int, ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = []
    for rank in range(ranks):
        monkeypatch.setattr("codeshell_hf.align.shared_work.count_ranks", lambda rank=rank: (rank, ranks))
        shares.append(choose_share(count))

    assert {len(share) for share in shares} == {-(-count // ranks)}
    assert {item for share in shares for item in share} == set(range(count))


def test_one_rank_has_all_results() -> None:
    assert gather_results({1: "b", 0: "a"}) == {0: "a", 1: "b"}


@pytest.mark.slow
def test_a_sharded_policy_is_measured_as_a_whole_one(
    tmp_path: Path, learnt_by_heart: Path, shared_tokenizer: CodeShellTokenizer
) -> None:
    model = CodeShellForCausalLM.from_pretrained(learnt_by_heart)
    model.save_pretrained(tmp_path)
    CodeShellTokenizer.from_pretrained(learnt_by_heart).save_pretrained(tmp_path)
    (tmp_path / "sharded.py").write_text(SHARDED)
    expected = measure(model, CodeShellTokenizer.from_pretrained(learnt_by_heart))

    process = start(str(tmp_path / "sharded.py"), str(tmp_path), ranks=2)
    printed = process.communicate(timeout=240)[0]

    assert process.returncode == 0, printed[-3000:]
    measured = [json.loads((tmp_path / f"measured-{rank}.json").read_text()) for rank in range(2)]
    assert measured[0] == measured[1] == expected
    assert 0 < sum(expected["finished"]) < 5, "some rows end before others"
