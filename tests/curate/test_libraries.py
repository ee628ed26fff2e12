"""Imports are counted."""

import pytest

from codeshell_hf.curate.libraries import count_imports

IMPORTS = {
    "python": ("import os, numpy as np\nfrom torch.nn import Linear\nfrom . import x\n", 3, 2),
    "java": ("import java.util.List;\nimport org.springframework.boot.App;\n", 2, 1),
    "typescript": ("import React from 'react';\nconst x = require('./local');\nimport 'lodash/fp';\n", 3, 2),
    "go": ('import (\n\t"fmt"\n\t"github.com/gin-gonic/gin"\n)\n', 2, 1),
    "rust": ("use std::fs;\nuse serde::Serialize;\n", 2, 1),
    "cpp": ('#include <vector>\n#include <boost/any.hpp>\n#include "own.h"\n', 3, 1),
    "c-sharp": ("using System;\nusing Newtonsoft.Json;\n", 2, 1),
    "php": ("use App\\Models\\User;\nuse Illuminate\\Http\\Request;\n", 2, 1),
    "kotlin": ("import java.io.File\nimport kotlinx.coroutines.launch\n", 2, 1),
}


@pytest.mark.parametrize("language", IMPORTS)
def test_imports_are_counted_and_the_well_known_told_apart(language: str) -> None:
    text, count, known = IMPORTS[language]

    assert count_imports(text.encode(), language) == (count, known)


def test_languages_without_imports_have_none_to_count() -> None:
    assert count_imports(b"x", "markdown") is None
