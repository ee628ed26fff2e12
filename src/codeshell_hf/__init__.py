"""CodeShell for current transformers: importing this package registers it with every Auto class.

```python
import codeshell_hf
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("WisdomShell/CodeShell-7B")
tokenizer = AutoTokenizer.from_pretrained("WisdomShell/CodeShell-7B")
```
"""

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .checkpoint_places import bundled
from .version import __version__

if TYPE_CHECKING:
    from .configuration_codeshell import CodeShellConfig
    from .modeling_codeshell import (
        CodeShellForCausalLM,
        CodeShellForQuestionAnswering,
        CodeShellForSequenceClassification,
        CodeShellForTokenClassification,
        CodeShellModel,
        CodeShellPreTrainedModel,
    )
    from .tokenization_codeshell import CodeShellTokenizer

__all__ = [
    "CodeShellConfig",
    "CodeShellForCausalLM",
    "CodeShellForQuestionAnswering",
    "CodeShellForSequenceClassification",
    "CodeShellForTokenClassification",
    "CodeShellModel",
    "CodeShellPreTrainedModel",
    "CodeShellTokenizer",
    "__version__",
    "bundled",
]


class _RegisterAfterTransformers(MetaPathFinder):
    """Registers the models as soon as transformers is imported.

    Importing transformers and torch takes seconds, which `codeshell --help` and other code without them should not wait
    for. If a file of the model itself imports transformers first, registration waits until that file is imported.
    """

    files = frozenset(f"{__name__}.{name}_codeshell" for name in ("configuration", "modeling", "tokenization"))

    def __init__(self) -> None:
        self.is_searching = False
        self.files_being_imported = 0

    def find_spec(self, fullname: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if self.is_searching or (fullname != "transformers" and fullname not in self.files):
            return None
        self.is_searching = True
        try:
            spec = find_spec(fullname)
        finally:
            self.is_searching = False
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            is_file = fullname in self.files
            self.files_being_imported += is_file
            try:
                execute(module)
            finally:
                self.files_being_imported -= is_file
            if self in sys.meta_path and not self.files_being_imported and "transformers" in sys.modules:
                sys.meta_path.remove(self)
                import_module(f"{__name__}.registration")

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


if "transformers" in sys.modules:
    import_module("codeshell_hf.registration")
else:
    sys.meta_path.insert(0, _RegisterAfterTransformers())


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    registration = import_module("codeshell_hf.registration")
    if name in ("CodeShellConfig", "CodeShellTokenizer"):
        return getattr(registration, name)
    registration.register_models()
    return getattr(import_module("codeshell_hf.modeling_codeshell"), name)
