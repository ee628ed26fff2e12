"""Imports lead to the files that they mean, and out of the repository to none."""

import ast
import importlib.util
import sysconfig
from pathlib import Path

import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.pack import imports as imports_module
from codeshell_hf.pack.imports import Import, Paths, find_imports
from codeshell_hf.text.grammars import load_grammar


def resolve(text: str, language: str, path: str, *others: str) -> list[str]:
    """The files of a repository that a file of it imports."""
    paths = Paths([path, *others])
    return [found for one in find_imports(text, language, path) for found in paths.resolve(one, importer=path)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import shop.cart\n", ["src/shop/cart.py"]),
        ("import shop.cart as c, os\n", ["src/shop/cart.py"]),
        ("from shop.cart import Cart\n", ["src/shop/cart.py"]),
        ("from shop import cart, pay\n", ["src/shop/cart.py", "src/shop/pay/__init__.py"]),
        ("from .cart import Cart as C\n", ["src/shop/cart.py"]),
        ("from . import cart\n", ["src/shop/cart.py"]),
        ("from .pay.card import *\n", ["src/shop/pay/card.py"]),
        ("from ..tools import clock\n", ["src/tools/clock.py"]),
        ("def late():\n    from .pay import card\n", ["src/shop/pay/card.py"]),
        ("import tools.clock\n", ["src/tools/clock.py"]),
        ("text = 'import shop.cart'\n# from .cart import Cart\n", []),
        ("import json\nimport numpy.linalg\n", []),
        ("import clock\n", []),  # lies in a folder that no interpreter would look into
        ("from ....far import away\n", []),
        ("from shop import Basket\n", []),  # its own package's file, which imports it
    ],
)
def test_python(text: str, expected: list[str]) -> None:
    others = ("shop/__init__.py", "shop/cart.py", "shop/pay/__init__.py", "shop/pay/card.py", "tools/clock.py")

    found = resolve(text, "python", "src/shop/till.py", *(f"src/{path}" for path in others))

    assert found == expected


def test_a_package_imports_its_modules_but_is_not_imported_by_them() -> None:
    others = ("a/__init__.py", "a/b.py", "main.py")

    assert resolve("from .b import x\n", "python", "a/__init__.py", *others) == ["a/b.py"]
    assert resolve("import a\n", "python", "a/b.py", *others) == []
    assert resolve("import a\n", "python", "main.py", *others) == ["a/__init__.py"]


def test_a_relative_import_that_leads_out_of_the_repository_means_nothing() -> None:
    assert resolve("from .x import y\n", "python", "a.py", "x.py") == ["x.py"]
    assert resolve("from ..x import y\n", "python", "a.py", "x.py") == []


def test_the_nearest_of_several_files_with_one_name_is_meant() -> None:
    others = ("one/lib/util/text.py", "two/lib/util/text.py")

    assert resolve("import util.text\n", "python", "two/lib/main.py", *others) == ["two/lib/util/text.py"]
    assert resolve("import util.text\n", "python", "three/main.py", *others) == ["one/lib/util/text.py"]


@pytest.mark.parametrize("language", ["javascript", "typescript"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('import a from "./a";', ["src/ui/a.js"]),
        ("import './a.js'", ["src/ui/a.js"]),
        ('export * from "../core";', ["src/core/index.ts"]),
        ('export { x } from "../core/store.js";', ["src/core/store.ts"]),
        ('const s = require("../core/store");', ["src/core/store.ts"]),
        ('const p = import("./page");', ["src/ui/page.tsx"]),
        ('import s from "@/core/store";', ["src/core/store.ts"]),
        ('import x from ".";', ["src/ui/index.js"]),
        ('import React from "react"; require("fs"); log("./a");', []),
        ('// import a from "./a"', []),
        ('import up from "../../../out";', []),
    ],
)
def test_scripts(text: str, expected: list[str], language: str) -> None:
    others = ("ui/a.js", "ui/index.js", "ui/page.tsx", "core/index.ts", "core/store.ts")

    assert resolve(text, language, "src/ui/main.ts", *(f"src/{path}" for path in others)) == expected


def test_typescript_requires_by_assignment_and_imports_types() -> None:
    text = 'import a = require("./a");\nimport type { B } from "./b";'

    assert resolve(text, "typescript", "main.ts", "a.ts", "b.d.ts") == ["a.ts", "b.d.ts"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import com.shop.cart.Cart;", ["app/src/main/java/com/shop/cart/Cart.java"]),
        ("import static com.shop.cart.Cart.SIZE;", ["app/src/main/java/com/shop/cart/Cart.java"]),
        ("import com.shop.cart.Cart.Item;", ["app/src/main/java/com/shop/cart/Cart.java"]),
        (
            "import com.shop.cart.*;",
            ["app/src/main/java/com/shop/cart/Cart.java", "app/src/main/java/com/shop/cart/Item.java"],
        ),
        ("import java.util.List;", []),
    ],
)
def test_java(text: str, expected: list[str]) -> None:
    others = ("cart/Cart.java", "cart/Item.java", "cart/notes.txt")

    found = resolve(
        text, "java", "app/src/main/java/com/shop/Till.java", *(f"app/src/main/java/com/shop/{path}" for path in others)
    )

    assert found == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('import "github.com/o/r/internal/cart"', ["internal/cart/cart.go", "internal/cart/item.go"]),
        ('import (\n  "fmt"\n  c "shop/internal/cart"\n)', ["internal/cart/cart.go", "internal/cart/item.go"]),
        ('import "github.com/other/cart"', []),
        ('import "context"', []),
    ],
)
def test_go_imports_a_folder_without_its_tests(text: str, expected: list[str]) -> None:
    others = ("internal/cart/cart.go", "internal/cart/cart_test.go", "internal/cart/item.go", "context/a.go")

    assert resolve(f"package main\n{text}\n", "go", "main.go", *others) == expected


@pytest.mark.parametrize("language", ["c", "cpp", "cuda"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('#include "cart.h"', ["src/cart.h"]),
        ('#include "../util/clock.h"', ["util/clock.h"]),
        ('#include "shop/till.h"', ["include/shop/till.h"]),
        ("#include <shop/till.h>", ["include/shop/till.h"]),
        ("#include <all.h>", ["include/all.h"]),
        ("#include <stdio.h>\n#include <clock.h>", []),
        ('// #include "cart.h"', []),
    ],
)
def test_c(text: str, expected: list[str], language: str) -> None:
    others = ("src/cart.h", "util/clock.h", "include/shop/till.h", "include/all.h")

    assert resolve(text + "\n", language, "src/main.c", *others) == expected


def test_a_header_beside_the_file_hides_another_of_its_name() -> None:
    assert resolve('#include "a.h"\n', "c", "src/main.c", "src/a.h", "a.h") == ["src/a.h"]


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("src/lib.rs", "mod cart; pub mod pay; mod here { fn f() {} }", ["src/cart.rs", "src/pay/mod.rs"]),
        ("src/cart.rs", "mod item;", ["src/cart/item.rs"]),
        ("src/pay/mod.rs", "mod card;", ["src/pay/card.rs"]),
        ("src/cart.rs", "use crate::pay::{card::Card, Payment};", ["src/pay/card.rs", "src/pay/mod.rs"]),
        ("src/pay/card.rs", "use super::super::cart;", ["src/cart.rs"]),
        ("src/cart.rs", "use super::pay as p; use self::item::*;", ["src/pay/mod.rs", "src/cart/item.rs"]),
        ("src/lib.rs", "use std::collections::HashMap; use serde::Serialize;", []),
    ],
)
def test_rust(path: str, text: str, expected: list[str]) -> None:
    others = ("src/lib.rs", "src/cart.rs", "src/cart/item.rs", "src/pay/mod.rs", "src/pay/card.rs")

    assert resolve(text, "rust", path, *others) == expected


def test_other_languages_import_nothing() -> None:
    assert find_imports("import a", "haskell", "a.hs") == []


def test_a_missing_grammar_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    imports_module._load.cache_clear()
    load_grammar.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        DataError, match=r'finding imports of go needs tree-sitter; pip install "codeshell-hf\[curate\]"'
    ):
        find_imports('import "a/b"', "go", "a.go")
    monkeypatch.undo()
    load_grammar.cache_clear()


def test_the_imports_of_a_real_package_are_those_that_python_reads() -> None:
    """Python's own parser and its own rule for relative names are the oracle, over the modules of `email`."""
    folder = Path(sysconfig.get_paths()["stdlib"]) / "email"
    texts = {f"email/{path.name}": path.read_text(encoding="utf-8") for path in folder.glob("*.py")}
    modules = {path.removesuffix(".py").replace("/", ".").removesuffix(".__init__"): path for path in texts}
    found, expected = set(), set()
    for path, text in texts.items():
        found |= {(path, one) for one in resolve(text, "python", path, *texts)}
        for node in ast.walk(ast.parse(text)):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [name.name for name in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), "email")
                names = [f"{base}.{name.name}" if f"{base}.{name.name}" in modules else base for name in node.names]
            expected |= {(path, modules[name]) for name in names if name in modules and name != "email"}

    expected = {(one, two) for one, two in expected if one != two}
    assert len(expected) > 40
    assert found == expected


def test_exact_paths_and_ends_of_paths_are_told_apart() -> None:
    paths = Paths(["a/x.py", "x.py"])

    assert paths.resolve(Import(("/x.py",)), importer="a/m.py") == ["x.py"]
    assert paths.resolve(Import(("x.py",)), importer="a/m.py") == ["a/x.py"]
