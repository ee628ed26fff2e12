"""The results of an evaluation, as in results.json, and their cache between runs."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..manifest import hash_values, write_text
from .line_infilling import LineScore
from .problems import Row
from .scores import Score


@dataclass
class ModelResult:
    """The results of one model.

    Args:
        made_by: Weights, tokenizer, precision, device and code; or a server.
        tasks: Scores by task.
        bits_per_byte: By language and for "all"; empty if not measured.
        bits_per_byte_interval: Bounds of the 95 % interval.
        infilling: Held-out lines, by language and for "all"; empty if not measured.
        samples: A few of these lines, as filled in.
    """

    made_by: Mapping[str, object] = field(default_factory=dict)
    tasks: dict[str, Score] = field(default_factory=dict)
    bits_per_byte: dict[str, float] = field(default_factory=dict)
    bits_per_byte_interval: dict[str, tuple[float, float]] = field(default_factory=dict)
    infilling: dict[str, LineScore] = field(default_factory=dict)
    samples: list[dict[str, object]] = field(default_factory=list)

    def to_values(self) -> dict[str, object]:
        """JSON values, without what was not measured."""
        return {name: value for name, value in asdict(self).items() if value or name in ("made_by", "tasks")}

    def to_summary(self) -> dict[str, object]:
        """JSON values for manifest, card and page, without single problems and samples."""
        tasks = {name: score.to_summary() for name, score in self.tasks.items()}
        values = self.to_values()
        return {**{name: value for name, value in values.items() if name not in ("samples", "tasks")}, "tasks": tasks}


@dataclass(frozen=True)
class ResultCache:
    """Results of earlier runs, one JSON file each; `code` is the hash of the code that computes them."""

    folder: Path
    code: str

    def compute(self, name: str, origin: object, compute: Callable[[], Mapping[str, object]]) -> Row:
        """Computes a result, or reads that of an earlier run with the same origin.

        Args:
            name: First part of the file's name.
            origin: All that the result depends on besides the code.
            compute: Computes it.

        Returns:
            The result after a round trip through JSON, so with lists for tuples.
        """
        digest = hash_values([self.code, json.loads(json.dumps(origin, default=str))])[:12]
        path = self.folder / f"{name}-{digest}.json"
        if not path.exists():
            text = json.dumps(compute(), ensure_ascii=False)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        return dict(json.loads(path.read_text(encoding="utf-8")))
