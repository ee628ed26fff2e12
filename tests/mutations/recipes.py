"""Mutations of the recipes themselves."""

from tests.mutations import Mutation

PRETRAIN = "recipes/pretrain.py"
TESTS = "tests/recipes/test_pretrain.py::"

MUTATIONS = (
    Mutation(
        PRETRAIN,
        "if checkpoints.is_due(progress.step) or is_last:",
        "if is_last:",
        f"{TESTS}test_checkpoints_are_kept_in_number_and_some_for_good",
        "only the last step is saved",
    ),
    Mutation(
        PRETRAIN,
        "if checkpoints.resume(state):",
        "if False:",
        f"{TESTS}test_a_run_that_a_signal_stops_resumes_bit_for_bit_through_the_change_of_length",
        "a stopped run starts over",
    ),
    Mutation(
        PRETRAIN,
        "progress.tokens + steps.tokens\n                norm",
        "progress.tokens + batch.micro_tokens\n                norm",
        f"{TESTS}test_a_run_that_a_signal_stops_resumes_bit_for_bit_through_the_change_of_length",
        "a step counts one micro-batch",
    ),
    Mutation(
        PRETRAIN,
        "if guard.wants_rollback:",
        "if False:",
        f"{TESTS}test_a_run_rolls_back_to_older_weights_and_goes_on_with_newer_data",
        "a run that diverges is not rolled back",
    ),
    Mutation(
        "recipes/with_trl.py",
        'options = {**settings.trainer, "bf16": bf16,',
        'options = {"bf16": not bf16, **settings.trainer,',
        "tests/recipes/test_with_trl.py::test_the_trainer_computes_in_the_precision_of_the_settings",
        "the trainer computes in another precision",
    ),
    Mutation(
        "recipes/tiny/questions.py",
        "for language, wording in NEW_WORDINGS.items():",
        "for language, (wording, *_) in WORDINGS.items():",
        "tests/recipes/test_tiny.py::test_the_files_are_what_their_script_writes",
        "the held-out wording of tiny's first questions is trained on",
    ),
    Mutation(
        "recipes/merge.py",
        ".merge_and_unload().save_pretrained(output)",
        ".unload().save_pretrained(output)",
        "tests/recipes/test_merge.py::test_a_kept_adapter_is_merged_later_by_a_command",
        "an adapter is dropped and not merged",
    ),
)
