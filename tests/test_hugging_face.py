"""Hugging Face's own tests of every model in transformers, run on ours.

They are no part of its wheel. Its source distribution holds some, and `tests/legs.py` fetches the one of the release
under test. `TRANSFORMERS_TESTS` names the folder `tests` of that release. A checkout of transformers has those of
generation and export, too: name its folder behind the first, with a colon between them.
"""

import os
import sys
import unittest
from importlib.util import find_spec
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch

import tests
from codeshell_hf import (
    CodeShellConfig,
    CodeShellForCausalLM,
    CodeShellForQuestionAnswering,
    CodeShellForSequenceClassification,
    CodeShellForTokenClassification,
    CodeShellModel,
)

FOLDERS = [folder for folder in os.environ.get("TRANSFORMERS_TESTS", "").split(os.pathsep) if folder]
if not FOLDERS:
    pytest.skip("TRANSFORMERS_TESTS names no folder of Hugging Face's tests", allow_module_level=True)
# What they import of each other is called `tests`, as ours is; ours come first.
tests.__path__.extend(folder for folder in FOLDERS if folder not in tests.__path__)


def has_module(name: str, **names: Any) -> bool:
    """Whether a module of theirs is there. For one that is not, another is put, with these names, for its importers."""
    package = name.rpartition(".")[0]
    if find_spec(package) and find_spec(name):
        return True
    for missing in (package, name):
        module = sys.modules.setdefault(missing, ModuleType(missing))
        module.__path__ = []
    vars(module).update(names)
    return False


HAS_EXPORT = has_module(
    "tests.exporters.test_export",
    ExportTesterMixin=type("ExportTesterMixin", (), {}),
    ExportGenerateTesterMixin=type("ExportGenerateTesterMixin", (), {}),
)
HAS_GENERATION = has_module("tests.generation.test_utils", GenerationTesterMixin=type("GenerationTesterMixin", (), {}))
has_module("tests.utils.test_configuration_utils", config_common_kwargs={})

from tests.generation.test_utils import GenerationTesterMixin  # noqa: E402
from tests.test_configuration_common import ConfigTester  # noqa: E402
from tests.test_modeling_common import ModelTesterMixin  # noqa: E402
from tests.test_training_mixin import TrainingTesterMixin  # noqa: E402

NO_GENERATION = "no tests of generation in TRANSFORMERS_TESTS; our own compare with full forwards"
NO_EXPORT = "no tests of export in TRANSFORMERS_TESTS; our own compile decoding into one graph"


class CodeShellTester:
    """What their tests ask about a model: its sizes, a configuration, and inputs for it."""

    batch_size = 3
    seq_length = 7
    is_training = True
    vocab_size = 99
    hidden_size = 32
    num_hidden_layers = 2
    num_attention_heads = 4
    causal_lm_class = CodeShellForCausalLM
    sequence_classification_class = CodeShellForSequenceClassification

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def get_config(self) -> CodeShellConfig:
        sizes = {
            "vocab_size": self.vocab_size,
            "n_positions": 512,
            "n_embd": self.hidden_size,
            "n_inner": 37,
            "n_layer": self.num_hidden_layers,
            "n_head": self.num_attention_heads,
            "num_query_groups": 2,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
        }
        return CodeShellConfig(**(sizes | self.changes))

    def prepare_config_and_inputs_for_common(self) -> tuple[CodeShellConfig, dict[str, torch.Tensor]]:
        ids = torch.randint(3, self.vocab_size, (self.batch_size, self.seq_length))
        mask = torch.ones_like(ids).tril()  # padding on the right, as much as can be
        return self.get_config(), {"input_ids": ids, "attention_mask": mask}


class Common(ModelTesterMixin, GenerationTesterMixin):
    changes: ClassVar[dict[str, Any]] = {}
    all_model_classes = (
        CodeShellModel,
        CodeShellForCausalLM,
        CodeShellForSequenceClassification,
        CodeShellForTokenClassification,
        CodeShellForQuestionAnswering,
    )

    def setUp(self) -> None:
        self.model_tester = CodeShellTester(**self.changes)

    if not HAS_GENERATION:

        def test_generation_tester_mixin_inheritance(self) -> None:
            self.skipTest(NO_GENERATION)  # it would pass, since an empty class stands in for theirs

    if not HAS_EXPORT:

        def test_torch_export(self) -> None:
            self.skipTest(NO_EXPORT)


class TestRelease(Common, TrainingTesterMixin, unittest.TestCase):
    """The layout of the released models."""

    model_tester = None  # type: ignore[assignment] # abstract in TrainingTesterMixin

    def test_config(self) -> None:
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "num_query_groups": 2, "n_inner": 37}
        ConfigTester(self, config_class=CodeShellConfig, **sizes).run_common_tests()


class TestExtensions(Common, unittest.TestCase):
    """All that the released models lack: a window, a gated MLP, and an output layer of its own."""

    changes: ClassVar[dict[str, Any]] = {
        "sliding_window": 4,
        "activation_function": "swiglu",
        "tie_word_embeddings": False,
    }
