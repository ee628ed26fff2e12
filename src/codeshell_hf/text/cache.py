"""A cache in a JSON Lines file that survives a kill: rows are only appended."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path

from ..manifest import write_text


class JsonLinesCache:
    """Rows by key, each written to disk at once; safe to use from several threads.

    A line that a kill cut short is dropped. The last row of a key wins. `header`, the first line, says what the rows
    depend on. Without `repairs` the file is only read, since another process may be writing it.
    """

    def __init__(self, path: Path, header: Mapping[str, object] | None = None, *, repairs: bool = True) -> None:
        self.path = path
        self._header = header
        self._lock = threading.Lock()
        self._rows: dict[str, dict[str, object]] = {}
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        rows = [row for line in lines if (row := _read_row(line)) is not None]
        for row in rows:
            if isinstance(key := row.pop("key", None), str):
                self._rows[key] = row
        is_cut = bool(lines and lines[-1]) or len(rows) < sum(map(bool, lines))
        if repairs and (is_cut or (header is not None and not rows)):
            self._rewrite()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: str) -> dict[str, object] | None:
        """The row of a key, without the key."""
        return self._rows.get(key)

    def list_rows(self) -> list[dict[str, object]]:
        """All rows, without their keys."""
        return list(self._rows.values())

    def add(self, key: str, row: Mapping[str, object]) -> None:
        """Adds a row and appends it to the file."""
        line = json.dumps({"key": key, **row}, ensure_ascii=False) + "\n"
        data = line.encode("utf-8", "backslashreplace")  # JSON can escape lone surrogates, UTF-8 cannot hold them
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(data)
            self._rows[key] = dict(row)

    def _rewrite(self) -> None:
        lines = [] if self._header is None else [dict(self._header)]
        lines += [{"key": key, **row} for key, row in self._rows.items()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))


def _read_row(line: bytes) -> dict[str, object] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
