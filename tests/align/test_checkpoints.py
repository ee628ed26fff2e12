"""The checkpoints of transformers' trainer."""

from pathlib import Path

from codeshell_hf.align.checkpoints import find_complete_checkpoint


def test_the_newest_complete_checkpoint_is_found_and_cut_ones_are_removed(tmp_path: Path) -> None:
    assert find_complete_checkpoint(tmp_path / "none") is None
    for step, state in ((9, "{}"), (10, "{}"), (100, '{"cut'), (101, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)

    assert find_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-9"]
