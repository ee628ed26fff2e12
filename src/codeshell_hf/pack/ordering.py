"""The order of a repository's files: what is imported stands before what imports it."""

import heapq
from collections.abc import Iterator, Mapping, Sequence


def order_by_imports(imports: Mapping[str, Sequence[str]]) -> list[str]:
    """Orders files so that each comes after what it imports, and soon after.

    Files are gone through by path, and what a file imports is placed right before it. Of files that import one another
    in a circle, the one that imports the fewest of those not yet placed comes first, and of equals the first by path.

    Args:
        imports: For each file by path, the paths of those that it imports; all of them are keys.

    Source:
        Tarjan 1972, "Depth-first search and linear graph algorithms", whose components come in this order; the rule for
        circles is DeepSeek-Coder's (Guo et al. 2024, arXiv:2401.14196, algorithm 1).

    >>> order_by_imports({"a.py": ["z.py"], "b.py": [], "z.py": []})
    ['z.py', 'a.py', 'b.py']
    """
    return [path for circle in _find_circles(imports) for path in _open_circle(circle, imports)]


def _find_circles(imports: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """Groups of files that import one another, directly or not, each after those that it imports; most are one file."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_files: list[str] = []
    is_open: set[str] = set()
    for start in sorted(imports):
        if start in number:
            continue
        number[start] = lowest[start] = len(number)
        open_files.append(start)
        is_open.add(start)
        walk = [(start, iter(sorted(set(imports[start]))))]
        while walk:
            file, rest = walk[-1]
            for imported in rest:
                if imported not in number:
                    number[imported] = lowest[imported] = len(number)
                    open_files.append(imported)
                    is_open.add(imported)
                    walk.append((imported, iter(sorted(set(imports[imported])))))
                    break
                if imported in is_open:
                    lowest[file] = min(lowest[file], number[imported])
            else:
                walk.pop()
                if walk:
                    importer = walk[-1][0]
                    lowest[importer] = min(lowest[importer], lowest[file])
                if lowest[file] == number[file]:
                    circle = [open_files.pop()]
                    while circle[-1] != file:
                        circle.append(open_files.pop())
                    is_open.difference_update(circle)
                    yield circle


def _open_circle(circle: Sequence[str], imports: Mapping[str, Sequence[str]]) -> list[str]:
    if len(circle) == 1:
        return list(circle)
    inside = set(circle)
    left = {file: len((set(imports[file]) & inside) - {file}) for file in circle}
    importers: dict[str, list[str]] = {file: [] for file in circle}
    for file in circle:
        for imported in (set(imports[file]) & inside) - {file}:
            importers[imported].append(file)
    waiting = [(count, file) for file, count in left.items()]
    heapq.heapify(waiting)
    order: list[str] = []
    placed: set[str] = set()
    while waiting:
        _, file = heapq.heappop(waiting)
        if file in placed:  # its place was settled with a lower count
            continue
        order.append(file)
        placed.add(file)
        for importer in importers[file]:
            left[importer] -= 1
            heapq.heappush(waiting, (left[importer], importer))
    return order
