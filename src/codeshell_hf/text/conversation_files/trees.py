"""Trees of messages, as OpenAssistant publishes them: one tree a row, or one message a row."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ...errors import DataError
from .findings import Findings
from .rows import Row
from .turns import Turn, read_turn

FIELDS = ("message_id", "parent_id", "message_tree_id", "text", "role", "rank", "lang", "replies", "prompt", "deleted")


@dataclass(frozen=True)
class Thread:
    """The turns from the first message of a tree to one of its last answers.

    Args:
        turns: An answer that an earlier thread has too carries no loss, so that each is learned once.
        tree: The id of the first message.
    """

    turns: tuple[Turn, ...]
    tree: str


def is_tree(row: Row) -> bool:
    """Whether a row is a tree, with all its replies."""
    prompt = row.get("prompt")
    return isinstance(prompt, Mapping) and "replies" in prompt and "role" in prompt


def is_message(row: Row) -> bool:
    """Whether a row is one message, which names its parent."""
    return {"message_id", "parent_id", "role", "text"} <= row.keys()


def read_tree(row: Row, place: str, findings: Findings) -> list[Thread]:
    """The threads of a row that is a tree."""
    root = row["prompt"]
    if not isinstance(root, Mapping):
        raise DataError(f"{place} has no first message; write it under prompt")
    children: dict[str, list[Row]] = {}
    nodes: list[tuple[str, Row]] = [("0", root)]
    for path, node in nodes:
        replies = node.get("replies")
        inner = [reply for reply in replies if isinstance(reply, Mapping)] if isinstance(replies, list) else []
        children[path] = _order(inner)
        nodes += [(f"{path}.{number}", reply) for number, reply in enumerate(children[path])]
    links = {path: [f"{path}.{number}" for number in range(len(inner))] for path, inner in children.items()}
    tree = str(row.get("message_tree_id", root.get("message_id", place)))
    return list(_follow("0", dict(nodes), links, tree, place, findings))


def join_messages(rows: Iterable[tuple[str, Row]], findings: Findings) -> Iterator[tuple[str, Thread]]:
    """The threads of rows that are messages, which may stand in any order, each with the place of its first message.

    A message whose parent is missing is counted and left out with its replies.
    """
    messages: dict[str, tuple[str, Row]] = {}
    links: dict[str, list[str]] = {}
    roots: list[str] = []
    for place, row in rows:
        name = str(row["message_id"])
        messages[name] = (place, row)
        if row["parent_id"] in (None, ""):
            roots.append(name)
        else:
            links.setdefault(str(row["parent_id"]), []).append(name)
    lost = sum(len(names) for parent, names in links.items() if parent not in messages)
    if lost:
        findings.dropped["messages without their parent"] += lost
    nodes = {name: row for name, (_, row) in messages.items()}
    for parent, names in links.items():
        ordered = _order([{**nodes[name], "message_id": name} for name in names])
        links[parent] = [str(row["message_id"]) for row in ordered]
    for root in roots:
        place = messages[root][0]
        try:
            yield from ((place, thread) for thread in _follow(root, nodes, links, root, place, findings))
        except DataError as error:
            findings.refuse(error)


def _order(rows: list[Row]) -> list[Row]:
    """Replies by their rank, the best first; those without a rank stay in their order behind them."""

    def rank(row: Row) -> float:
        value = row.get("rank")
        return float(value) if isinstance(value, int | float) and value == value else float("inf")

    return sorted(rows, key=rank)


def _follow(
    root: str, nodes: Mapping[str, Row], links: Mapping[str, list[str]], tree: str, place: str, findings: Findings
) -> Iterator[Thread]:
    learned: set[str] = set()
    waiting: list[tuple[str, tuple[str, ...]]] = [(root, (root,))]
    while waiting:
        name, path = waiting.pop()
        replies = [reply for reply in links.get(name, []) if not nodes[reply].get("deleted") and reply not in path]
        if replies:
            waiting += [(reply, (*path, reply)) for reply in reversed(replies)]
            continue
        turns = []
        for step in path:
            turn = _read(nodes[step], place, findings if step not in learned else Findings())
            turns.append(Turn(turn.role, turn.text, has_loss=False) if step in learned else turn)
        learned.update(path)
        yield Thread(tuple(turns), tree)


def _read(node: Row, place: str, findings: Findings) -> Turn:
    turn = read_turn({"role": node.get("role"), "text": node.get("text")}, f"a message of {place}", findings)
    for name, value in node.items():
        if name not in FIELDS and value is not None:
            findings.unused[name] += 1
    return turn
