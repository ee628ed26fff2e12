"""Registers CodeShell with transformers: Auto classes, pipelines, and the folders of the release."""

import functools
import sys
from typing import Any

import transformers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)
from transformers.models.auto import modeling_auto, tokenization_auto

from .configuration_codeshell import CodeShellConfig
from .tokenization_codeshell import SPECIAL_TOKENS, CodeShellTokenizer

_MODELS = (
    (AutoModel, "CodeShellModel", modeling_auto.MODEL_MAPPING_NAMES),
    (AutoModelForCausalLM, "CodeShellForCausalLM", modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    (
        AutoModelForSequenceClassification,
        "CodeShellForSequenceClassification",
        modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    ),
    (
        AutoModelForTokenClassification,
        "CodeShellForTokenClassification",
        modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    ),
    (
        AutoModelForQuestionAnswering,
        "CodeShellForQuestionAnswering",
        modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    ),
)
# Released configs have the type "kclgpt". Each type needs its own config class, since the Auto classes compare by name;
# it writes "codeshell".
_CONFIGS: tuple[type[CodeShellConfig], ...] = (
    CodeShellConfig,
    type("CodeShellConfig", (CodeShellConfig,), {"model_type": "kclgpt", "__module__": __package__}),
)


def _register() -> None:
    for config in _CONFIGS:
        AutoConfig.register(config.model_type, config, exist_ok=True)
        for _, name, names in _MODELS:
            # Registration does not fill these tables, which tell pipelines what they support, and the Trainer whether
            # to shift labels for label smoothing: without the entry it silently would not.
            names[config.model_type] = name
        AutoTokenizer.register(config, tokenizer_class=CodeShellTokenizer, exist_ok=True)
        # Released folders name GPT2Tokenizer, which does not split digits. Only these two tables of transformers make
        # the type take precedence over that name.
        tokenization_auto.TOKENIZER_MAPPING_NAMES[config.model_type] = CodeShellTokenizer.__name__
        tokenization_auto.MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS.add(config.model_type)
    # A model's class is never needed without a configuration, so the models, whose import takes a second, are imported
    # with the first one.
    finish = CodeShellConfig.__post_init__

    def finish_first(self: CodeShellConfig, **kwargs: Any) -> None:
        CodeShellConfig.__post_init__ = finish  # type: ignore[method-assign]
        register_models()
        finish(self, **kwargs)

    CodeShellConfig.__post_init__ = finish_first  # type: ignore[method-assign]


def _recognise_tokenizers() -> None:
    """Makes `AutoTokenizer` recognise CodeShell's tokenizer without a model configuration, as in an adapter's folder.

    There it only reads `tokenizer_config.json`, which in a release names a class that does not split digits.
    """
    read = tokenization_auto.get_tokenizer_config

    @functools.wraps(read)
    def read_and_correct(*args: Any, **kwargs: Any) -> dict[str, Any]:
        config: dict[str, Any] = read(*args, **kwargs)
        listed = [
            *(config.get("additional_special_tokens") or ()),
            *(config.get("extra_special_tokens") or ()),
            *(config.get("added_tokens_decoder") or {}).values(),
        ]
        tokens = {token["content"] if isinstance(token, dict) else str(token) for token in listed}
        is_gpt2 = str(config.get("tokenizer_class")).removesuffix("Fast") == "GPT2Tokenizer"
        is_released = is_gpt2 and tokens.issuperset(SPECIAL_TOKENS[1:])  # the first one is also the end of text
        # What this package saved names transformers' class, for readers without it, and its own as code.
        is_saved = CodeShellTokenizer.__name__ in str(config.get("auto_map"))
        if is_released or is_saved:
            config["tokenizer_class"] = CodeShellTokenizer.__name__
        return config

    tokenization_auto.get_tokenizer_config = read_and_correct


def register_models() -> None:
    """Imports the models and registers them with the Auto classes; called when the first configuration is made."""
    from . import modeling_codeshell

    for auto_class, name, _ in _MODELS:
        model_class = getattr(modeling_codeshell, name)
        for config in _CONFIGS:
            auto_class.register(config, model_class, exist_ok=True)
        # `transformers serve`, vLLM and others look up a checkpoint's class by name there. Importing the models may
        # replace the module that they hold.
        for module in (transformers, sys.modules["transformers"]):
            setattr(module, name, model_class)


_register()
_recognise_tokenizers()
