"""The report's figures."""

from codeshell_hf.evaluate.published import EXECUTION, PROTOCOLS, find_published


def test_published_figures_stand_only_beside_the_same_protocol_and_data() -> None:
    assert find_published("humaneval-released-v1", "py", 164) == 34.32
    assert find_published("humaneval-released-v1", "py", 8) is None
    assert find_published("humaneval-greedy-v1", "py", 164) is None
    assert find_published("infilling-santacoder-v1", "java", 1780) == 76.9
    assert {task for task, _ in EXECUTION} == {task for task, _ in PROTOCOLS.values()}
    assert len([1 for task, _ in EXECUTION if task == "multipl-e"]) == 11
