"""Merges an adapter into the model that it was trained on.

codeshell merge runs/codeshell-7b/sft/adapter runs/codeshell-7b/sft-merged
"""

import json
import sys
from pathlib import Path

from codeshell_hf.stages.process import make_parser, run


def main(arguments: list[str] | None = None) -> int:
    """Merges an adapter and saves model and tokenizer; returns 0, or 2 if called wrongly."""
    parser = make_parser("merge", __doc__)
    parser.add_argument("adapter", type=Path, help="the adapter folder of sft, reward, rlhf or dpo")
    parser.add_argument("output", type=Path, help="folder to write; it must not exist")
    options = parser.parse_args(arguments)

    def work() -> None:
        merge(options.adapter, options.output)
        print(f"wrote {options.output}")

    return run("merge", work)


def merge(adapter: Path, output: Path) -> None:
    """Merges an adapter into the model that its configuration names, and writes the tokenizer too.

    Raises:
        DataError: If the folder has no adapter, or the output exists.
        CheckpointError: If the base model cannot be loaded.
    """
    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.errors import CheckpointError, DataError

    if output.exists():
        raise DataError(f"{output} exists already; name another folder")
    try:
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"{adapter} has no readable adapter_config.json; name an adapter's folder") from error
    model = Path(config["base_model_name_or_path"])
    try:
        merge_adapter(model, adapter, output, task=config["task_type"])
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{adapter} cannot be merged into {model} ({reason}); keep the two together") from error
    CodeShellTokenizer.from_pretrained(adapter).save_pretrained(output)


def merge_adapter(model: Path, adapter: Path, output: Path, *, task: str) -> None:
    """Merges an adapter in float32 and saves the weights.

    Args:
        model: The base model.
        adapter: The adapter.
        output: The folder to write.
        task: PEFT's task type: "SEQ_CLS" for a reward model, else "CAUSAL_LM".
    """
    import torch
    from peft import PeftModel

    from codeshell_hf import CodeShellForCausalLM, CodeShellForSequenceClassification

    if task == "SEQ_CLS":
        base = CodeShellForSequenceClassification.from_pretrained(model, dtype=torch.float32, num_labels=1)
    else:
        base = CodeShellForCausalLM.from_pretrained(model, dtype=torch.float32)
    PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(output)


if __name__ == "__main__":
    sys.exit(main())
