"""CodeShell for today's transformers: importing this package makes every Auto class know it.

```python
import codeshell_hf
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("WisdomShell/CodeShell-7B")
tokenizer = AutoTokenizer.from_pretrained("WisdomShell/CodeShell-7B")
```
"""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)
from transformers.models.auto import tokenization_auto

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
from .version import __version__


def _register() -> None:
    # Released configs call the type "kclgpt". A type needs a config class of its own, which the Auto classes
    # compare by name; it writes "codeshell".
    alias: type[CodeShellConfig] = type(
        "CodeShellConfig", (CodeShellConfig,), {"model_type": "kclgpt", "__module__": __name__}
    )
    for config in (CodeShellConfig, alias):
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModel.register(config, CodeShellModel, exist_ok=True)
        AutoModelForCausalLM.register(config, CodeShellForCausalLM, exist_ok=True)
        AutoModelForSequenceClassification.register(config, CodeShellForSequenceClassification, exist_ok=True)
        AutoModelForTokenClassification.register(config, CodeShellForTokenClassification, exist_ok=True)
        AutoModelForQuestionAnswering.register(config, CodeShellForQuestionAnswering, exist_ok=True)
        AutoTokenizer.register(config, tokenizer_class=CodeShellTokenizer, exist_ok=True)
        # Released folders name GPT2Tokenizer, which drops the splitting of digits. Only these two tables of
        # transformers make the type win over the name in the folder.
        tokenization_auto.TOKENIZER_MAPPING_NAMES[config.model_type] = CodeShellTokenizer.__name__
        tokenization_auto.MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS.add(config.model_type)


_register()

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
]
