"""Files stand behind what they import."""

from itertools import pairwise

import numpy as np

from codeshell_hf.pack.ordering import order_by_imports


def test_imports_stand_right_before_their_first_importer_and_the_rest_by_path() -> None:
    imports = {"a.py": ["z.py"], "b.py": [], "c.py": ["z.py", "y.py"], "y.py": ["x.py"], "x.py": [], "z.py": []}

    # By hand: a needs z; b nothing; c needs y, which needs x, and z, which is there.
    assert order_by_imports(imports) == ["z.py", "a.py", "b.py", "x.py", "y.py", "c.py"]


def test_in_a_cycle_the_first_by_path_comes_first() -> None:
    assert order_by_imports({"b.py": ["a.py"], "a.py": ["b.py"]}) == ["a.py", "b.py"]
    assert order_by_imports({"a.py": ["a.py"]}) == ["a.py"]


def test_in_a_cycle_the_file_with_the_fewest_open_imports_comes_first() -> None:
    imports = {"s.py": ["w.py"], "w.py": ["x.py", "y.py"], "x.py": ["s.py", "y.py"], "y.py": ["s.py", "w.py", "x.py"]}

    # By hand: s has one open import, then x (s is placed), then w and y one each, of which w is first by path.
    assert order_by_imports(imports | {"a.py": ["y.py"]}) == ["s.py", "x.py", "w.py", "y.py", "a.py"]


def test_every_import_of_a_graph_without_cycles_stands_before_its_importer() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        rank = rng.permutation(40)  # an import is of lower rank, so that there is no cycle
        names = [f"{number:02d}.py" for number in range(40)]
        imports = {
            names[one]: [names[two] for two in range(40) if rank[two] < rank[one] and rng.random() < 0.1]
            for one in range(40)
        }

        order = order_by_imports(imports)

        assert sorted(order) == names
        place = {name: number for number, name in enumerate(order)}
        assert all(place[imported] < place[name] for name in names for imported in imports[name])


def test_order_does_not_depend_on_how_files_are_given() -> None:
    rng = np.random.default_rng(1)
    names = [f"{number:02d}.py" for number in range(30)]
    imports = {name: [other for other in names if rng.random() < 0.08] for name in names}  # with cycles

    shuffled = {name: imports[name][::-1] for name in rng.permutation(names).tolist()}

    assert order_by_imports(imports) == order_by_imports(shuffled)
    assert sorted(order_by_imports(imports)) == names


def test_a_chain_of_ten_thousand_files_is_ordered() -> None:
    names = [f"{number:05d}.py" for number in range(10_000)]
    imports = {name: [following] for name, following in pairwise(names)} | {names[-1]: []}

    assert order_by_imports(imports) == names[::-1]
