"""Orders the files of a repository so that imported files come before those that import them."""

import heapq
from collections.abc import Iterator, Mapping, Sequence


def order_by_imports(imports: Mapping[str, Sequence[str]]) -> list[str]:
    """Orders files topologically: each comes after the files that it imports, and as close to them as possible.

    Files are visited by path, and the imports of a file are placed right before it. In a cycle of imports, the file
    that imports the fewest files not yet placed comes first; ties are broken by path.

    Args:
        imports: For each path, the paths that it imports; all of them are keys.

    Source:
        Tarjan 1972, "Depth-first search and linear graph algorithms", which yields components in this order. The rule
        for cycles is DeepSeek-Coder's (Guo et al. 2024, arXiv:2401.14196, algorithm 1).

    >>> order_by_imports({"a.py": ["z.py"], "b.py": [], "z.py": []})
    ['z.py', 'a.py', 'b.py']
    """
    return [path for component in _find_components(imports) for path in _order_cycle(component, imports)]


def _find_components(imports: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """Yields strongly connected components, each after those that it imports; most are a single file."""
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
                    component = [open_files.pop()]
                    while component[-1] != file:
                        component.append(open_files.pop())
                    is_open.difference_update(component)
                    yield component


def _order_cycle(cycle: Sequence[str], imports: Mapping[str, Sequence[str]]) -> list[str]:
    if len(cycle) == 1:
        return list(cycle)
    inside = set(cycle)
    left = {file: len((set(imports[file]) & inside) - {file}) for file in cycle}
    importers: dict[str, list[str]] = {file: [] for file in cycle}
    for file in cycle:
        for imported in (set(imports[file]) & inside) - {file}:
            importers[imported].append(file)
    waiting = [(count, file) for file, count in left.items()]
    heapq.heapify(waiting)
    order: list[str] = []
    placed: set[str] = set()
    while waiting:
        _, file = heapq.heappop(waiting)
        if file in placed:  # already placed with a lower count
            continue
        order.append(file)
        placed.add(file)
        for importer in importers[file]:
            left[importer] -= 1
            heapq.heappush(waiting, (left[importer], importer))
    return order
