"""Loads checkpoints, with one clear error for missing or broken files."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any, Literal

import torch
from huggingface_hub import constants, get_session
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from transformers import AutoModelForCausalLM

from .checkpoint_places import is_folder
from .errors import CheckpointError
from .modeling_codeshell import CodeShellForCausalLM

HUB_TIMEOUT_S = 10


def load_model(name: str, *, dtype: torch.dtype | Literal["auto"], **options: Any) -> CodeShellForCausalLM:
    """Loads a complete CodeShell checkpoint, in evaluation mode.

    Args:
        name: A folder or a Hub name.
        dtype: Of the weights in memory; "auto" keeps the folder's.
        options: Further arguments of `from_pretrained`.

    Raises:
        CheckpointError: If it is missing, broken, of another architecture, or lacks weights.
    """
    report: dict[str, Any]
    with explain_loading(name):
        model, report = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, output_loading_info=True, **options)
    if not isinstance(model, CodeShellForCausalLM):
        raise CheckpointError(f"{name} is a {type(model).__name__}; name a CodeShell checkpoint")
    if report["missing_keys"] or report["mismatched_keys"]:
        lacking = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))[0]
        raise CheckpointError(
            f"{name} lacks {lacking} or has it in another shape; name a complete CodeShell checkpoint"
        )
    return model


@contextlib.contextmanager
def explain_loading(name: str) -> Iterator[None]:
    """Checks a folder or Hub name, and turns what loading it raises into one line.

    If the Hub cannot be reached, what was downloaded is used at once, and not after many tries.

    Raises:
        CheckpointError: If there is no such checkpoint, or it cannot be loaded.
    """
    failure = None if is_folder(name) else find_hub_failure()
    logger = logging.getLogger("huggingface_hub")
    level, was_offline = logger.level, constants.HF_HUB_OFFLINE
    logger.setLevel(logging.ERROR)  # it tells each of its tries
    constants.HF_HUB_OFFLINE = was_offline or failure is not None  # transformers asks for adapters in any case
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # safetensors, torch, JSON and the Hub each raise their own
        raise CheckpointError(explain(name, error, failure)) from error
    finally:
        logger.setLevel(level)
        constants.HF_HUB_OFFLINE = was_offline


def find_hub_failure() -> str | None:
    """Why the Hub cannot be reached; `None` if it can."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT_S)
    except Exception as error:  # its HTTP library's own, which changes
        return " ".join(str(error).split())[:100] or type(error).__name__
    return None


def explain(name: str, error: Exception, failure: str | None) -> str:
    """One line on what loading raised; `failure` is why the Hub cannot be reached."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    if failure is not None:
        return (
            f"{name} is no folder here and was not downloaded, and {constants.ENDPOINT} cannot be reached ({failure}); "
            "name a folder with a model, or try again with a network"
        )
    if any(isinstance(one, GatedRepoError) for one in chain):
        return f"{name} is only for those whom its owner admits; ask on its page, and log in with `hf auth login`"
    if any(isinstance(one, RepositoryNotFoundError | RevisionNotFoundError) for one in chain):
        return f"{name} is neither a folder here nor a model on the Hub; if it is private, log in with `hf auth login`"
    hub = next((one for one in chain if isinstance(one, HfHubHTTPError)), error)
    reason = " ".join(str(hub).split())[:200]
    return f"{name} cannot be loaded ({reason}); name a complete CodeShell checkpoint"
