"""Stages: settings, skipping, a folder that is whole or absent, a manifest, an exit code."""

STAGES = (
    *("curate", "tokenizer", "pack", "pretrain"),
    *("sft", "preferences", "reward", "rlhf", "dpo"),
    *("evaluate", "publish"),
)
