"""The evaluated models: in memory, behind a server, as programs that another harness generated, or as copies."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CheckpointError
from ..manifest import hash_file, hash_values
from ..text.infilling_dialects import DIALECTS, InfillingDialect, find_dialect
from .settings import CopySettings, EndpointSettings, LoadingSettings, ModelSettings, ProgramSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .generation import Generator


@dataclass
class EvaluatedModel:
    """A model to evaluate.

    Args:
        programs: Files of programs by task, if another harness generated them.
        identity: All that the answers depend on.
        generator: Generates answers; `None` if there are only programs.
        model: In evaluation mode; `None` behind a server.
        details: Device and number of parameters.
        only_chats: Whether it answers no other prompts than chats.
    """

    name: str
    programs: dict[str, Path] = field(default_factory=dict)
    identity: dict[str, object] = field(default_factory=dict)
    generator: "Generator | None" = None
    model: "PreTrainedModel | None" = None
    tokenizer: "PreTrainedTokenizerBase | None" = None
    batch_size: int = 1
    details: dict[str, object] = field(default_factory=dict)
    only_chats: bool = False

    def describe(self) -> dict[str, object]:
        """What produced the answers, for the result."""
        return {**self.identity, **self.details, "batch_size": self.batch_size}


def list_models(models: dict[str, ModelSettings], sweep: Path | None) -> dict[str, ModelSettings]:
    """Adds the checkpoints of a sweep to the models, ordered by name."""
    listed: dict[str, ModelSettings] = dict(models)
    if sweep is not None and sweep.is_dir():
        listed |= {path.name: path for path in sorted(sweep.iterdir()) if (path / "config.json").exists()}
    return listed


def load_model(
    name: str,
    source: ModelSettings,
    loading: LoadingSettings,
    *,
    dtype: str,
) -> EvaluatedModel:
    """Loads a model into memory, or connects to a server.

    Args:
        source: A folder, a server, files of programs, or conversations to copy from.
        dtype: Of the weights in memory, such as "bfloat16".

    Raises:
        CheckpointError: If it cannot be loaded.
    """
    batch_size = loading.batch_size
    if isinstance(source, ProgramSettings):
        files = {task: str(path) for task, path in source.programs.items()}
        return EvaluatedModel(name, source.programs, {"programs": files}, batch_size=batch_size)
    if isinstance(source, CopySettings):
        from ..dependencies import hash_code
        from . import copies

        return EvaluatedModel(
            name,
            identity={
                "copies": hash_values([hash_file(path) for path in source.copy_from]),
                "code": hash_code(Path(copies.__file__)),
            },
            generator=copies.open_copies(source.copy_from),
            batch_size=batch_size,
            only_chats=True,
        )
    if isinstance(source, EndpointSettings):
        from ..text.client import open_client
        from .endpoint import EndpointGenerator

        client = open_client(source, f"models.{name}", concurrency=source.calls_at_once)
        dialect = choose_dialect(name, source)
        generator = EndpointGenerator(client, dialect)
        identity: dict[str, object] = {"url": source.url, "model": source.model, "infilling": dialect.sentinels}
        return EvaluatedModel(name, identity=identity, generator=generator, batch_size=batch_size)
    return _load_folder(name, source, loading, dtype)


def choose_dialect(name: str, source: EndpointSettings) -> InfillingDialect:
    """How a served model is asked to fill in: by the vocabulary of its tokenizer if that is given, or as it is set.

    Raises:
        CheckpointError: If the tokenizer cannot be read, or has no sentinels.
    """
    if source.tokenizer is None:
        return DIALECTS[source.infilling]
    path = source.tokenizer / "tokenizer.json" if source.tokenizer.is_dir() else source.tokenizer
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = {*values["model"]["vocab"], *(added["content"] for added in values.get("added_tokens", ()))}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"models.{name}.tokenizer is {path}, which cannot be read ({error}); name a tokenizer.json"
        ) from error
    dialect = find_dialect(vocabulary)
    if dialect is None:
        raise CheckpointError(
            f"models.{name}.tokenizer is {path}, which has no sentinels of {', '.join(DIALECTS)}; set infilling instead"
        )
    return dialect


def _load_folder(name: str, folder: Path, loading: LoadingSettings, dtype: str) -> EvaluatedModel:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from .. import CodeShellTokenizer
    from ..dependencies import hash_code
    from ..loading import load_model as load_checkpoint
    from . import generation

    weights = [hash_file(path) for path in sorted(folder.glob("*.safetensors"))]
    if not weights:
        raise CheckpointError(f"models.{name} is {folder}, which holds no *.safetensors; name a model's folder")
    options = {"attn_implementation": loading.attention, "device_map": loading.device_map}
    options = {key: value for key, value in options.items() if value is not None}
    config = folder / "config.json"
    is_codeshell = config.exists() and any(word in config.read_text("utf-8") for word in ("codeshell", "kclgpt"))
    if is_codeshell:
        tokenizer = CodeShellTokenizer.from_pretrained(folder)
        model = load_checkpoint(str(folder), dtype=getattr(torch, dtype), **options)
    else:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), **options)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.eval() if loading.device_map is not None else model.eval().to(device)
    vocabulary = [hash_file(path) for path in sorted(folder.glob("tokenizer*"))]
    return EvaluatedModel(
        name,
        identity={
            "weights": hash_values(weights),
            "tokenizer": hash_values(vocabulary),
            "dtype": dtype,
            "code": hash_code(Path(generation.__file__)),
        },
        generator=generation.ModelGenerator(model, tokenizer, batch_size=loading.batch_size),
        model=model,
        tokenizer=tokenizer,
        batch_size=loading.batch_size,
        details={"device": device, "parameters": sum(parameter.numel() for parameter in model.parameters())},
    )
