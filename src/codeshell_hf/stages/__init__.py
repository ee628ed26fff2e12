"""Stages: settings, skipping, a folder that is complete or absent, a manifest, an exit code."""

STAGES = (
    *("curate", "tokenizer", "pack", "pretrain", "synthesize"),
    *("sft", "preferences", "reward", "rlhf", "dpo"),
    *("evaluate", "publish"),
)
