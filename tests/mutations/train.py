"""Mutations of pretraining."""

from tests.mutations import Mutation

TRAIN = "src/codeshell_hf/train/"
TESTS = "tests/train/"

MUTATIONS = (
    Mutation(
        "recipes/pretrain.py",
        "loss = engine.module(**to_tensors(batch, ranks.device)) / labels",
        "loss = engine.module(**to_tensors(batch, ranks.device)) / (2 * labels)",
        "tests/recipes/test_pretrain.py::test_a_new_model_starts_at_the_loss_of_a_uniform_guess",
        "the loss divided by twice its labels",
    ),
    Mutation(
        TRAIN + "guard.py",
        "is_spike = ratio is not None and is_warm and norm > ratio * self.mean",
        "is_spike = ratio is not None and is_warm and norm > 4 * ratio * self.mean",
        TESTS + "test_guard.py",
        "the guard's ratio times four",
    ),
    Mutation(
        TRAIN + "guard.py",
        "if not math.isfinite(norm) or is_spike:",
        "if is_spike:",
        TESTS + "test_guard.py",
        "steps with infinite norms are taken",
    ),
    Mutation(
        TRAIN + "optimizer.py",
        '{"params": others, "weight_decay": 0.0}',
        '{"params": others, "weight_decay": settings.weight_decay}',
        TESTS + "test_optimizer.py",
        "norms and biases decay",
    ),
    Mutation(
        TRAIN + "optimizer.py",
        'parameter.mul_(1 - group["lr"] * group["weight_decay"])',
        'parameter.mul_(1 + group["lr"] * group["weight_decay"])',
        TESTS + "test_optimizer.py",
        "Muon's decay with the wrong sign",
    ),
    Mutation(
        TRAIN + "schedule.py",
        "return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))",
        "return floor + (1 - floor) * (1 - progress)",
        TESTS + "test_schedule.py",
        "the learning rate falls along a line",
    ),
    Mutation(
        TRAIN + "schedule.py",
        "if schedule.max_epochs is not None and epochs > schedule.max_epochs:",
        "if schedule.max_epochs is not None and epochs > 2 * schedule.max_epochs:",
        TESTS + "test_schedule.py",
        "twice as many passes as allowed",
    ),
    Mutation(
        TRAIN + "checkpoint.py",
        'if hash_file(path / name) != record["files"][name]',
        "if not (path / name).exists()",
        TESTS + "test_checkpoint.py",
        "a checkpoint with changed bytes is loaded",
    ),
    Mutation(
        TRAIN + "checkpoint.py",
        "list_checkpoints(self.folder)[: -self._settings.keep]",
        "list_checkpoints(self.folder)[: -self._settings.keep - 1]",
        TESTS + "test_checkpoint.py",
        "one checkpoint too many is kept",
    ),
    Mutation(
        TRAIN + "engine.py",
        'torch.set_rng_state(state["rng"])',
        "pass",
        TESTS + "test_checkpoint.py",
        "a resumed run has other random numbers",
    ),
    Mutation(
        TRAIN + "rollback.py",
        "if progress.rollbacks == guard.settings.max_rollbacks or",
        "if progress.rollbacks > guard.settings.max_rollbacks or",
        TESTS + "test_checkpoint.py",
        "one rollback too many",
    ),
    Mutation(
        TRAIN + "progress.py",
        'if entry["step"] <= step]',
        'if entry["step"] <= step + 1]',
        TESTS + "test_progress.py",
        "a resumed log keeps a step that is repeated",
    ),
    Mutation(
        TRAIN + "loss.py",
        "torch.expm1(right).to(logits.dtype)",
        "torch.exp(right).to(logits.dtype)",
        TESTS + "test_loss.py",
        "the gradient at the right token lacks its minus one",
    ),
    Mutation(
        TRAIN + "weights.py",
        "std /= math.sqrt(2 * config.n_layer)",
        "std /= math.sqrt(config.n_layer)",
        TESTS + "test_weights.py",
        "projections into the residual stream start too wide",
    ),
    Mutation(
        TRAIN + "attention.py",
        "seen = (distances >= 0) & (distances < window)",
        "seen = (distances >= 0) & (distances <= window)",
        TESTS + "test_attention.py",
        "a window of one token more",
    ),
    Mutation(
        TRAIN + "throughput.py",
        "attention = sum(2 * 2 * (span / 2) * config.n_embd * 3 for span in spans)",
        "attention = sum(2 * 2 * span * config.n_embd * 3 for span in spans)",
        TESTS + "test_throughput.py",
        "causal attention counted as a square in MFU",
    ),
    Mutation(
        TRAIN + "positions.py",
        "nn.functional.cross_entropy(logits[0], inputs[0, 1:]",
        "nn.functional.cross_entropy(logits[0], inputs[0, :-1]",
        TESTS + "test_positions.py",
        "the loss of repeating a token in place of the next",
    ),
    Mutation(
        TRAIN + "background_evaluation.py",
        "for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES",
        "for name, value in os.environ.items()",
        TESTS + "test_background_evaluation.py",
        "a background evaluation takes itself for a rank",
    ),
    Mutation(
        TRAIN + "sharding.py",
        "if launched is not None and named is not None and launched != named:",
        "if False:",
        TESTS + "test_sharding.py",
        "accelerate launch and the recipe name different files",
    ),
)
