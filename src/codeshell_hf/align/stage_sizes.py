"""What a stage's settings and its trainer's options load and compute at a time, for `memory`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..configuration_codeshell import CodeShellConfig
from ..errors import SettingsError
from .memory import Adapted, Sampled, StageModels, StageTokens, count_adapter
from .settings import AdapterSettings, MeasureSettings

AlignmentStage = Literal["sft", "reward", "rlhf", "dpo"]
# Rows of an example: an answer, or both of a pair.
ROWS = {"sft": 1, "reward": 2, "dpo": 2, "kto": 1}


@dataclass(frozen=True)
class StageOptions:
    """What decides the memory of a stage.

    Args:
        stage: The stage.
        method: "dpo", "kto", "rloo" or "grpo"; "" for a stage with one method.
        trainer: Every option of TRL's configuration.
        adapter: As in the settings, like `measure`.
        rewards: Architectures of the reward models.
        longest_prompt: As the setting `max_prompt_tokens` of `rlhf`.
    """

    stage: AlignmentStage
    method: str
    trainer: Mapping[str, object]
    adapter: AdapterSettings | None = None
    measure: MeasureSettings | None = None
    rewards: Sequence[CodeShellConfig] = ()
    longest_prompt: int | None = None

    def recomputes(self) -> bool:
        """Whether activations are recomputed, by either of transformers' names; TRL's default is true."""
        named = [self.trainer.get(name) for name in ("activation_checkpointing", "gradient_checkpointing")]
        return bool(next((value for value in named if value is not None), True))

    def count(self, name: str) -> int | None:
        """A number of the trainer's options; `None` if it is not given.

        Raises:
            SettingsError: If it is no whole number.
        """
        value = self.trainer.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise SettingsError(f"trainer.{name} is {value!r}; set it to a whole number")
        return value


def size_models(policy: CodeShellConfig, options: StageOptions) -> StageModels:
    """The models of a stage."""
    adapter = options.adapter
    trains_all = adapter is None
    has_reference = trains_all and (
        (options.stage == "rlhf" and options.trainer.get("beta") != 0)
        or (options.stage == "dpo" and not options.trainer.get("precompute_ref_log_probs"))
    )
    return StageModels(
        policy,
        has_head=options.stage != "reward",
        adapter=None
        if adapter is None
        else Adapted(
            count_adapter(policy, adapter.r, adapter.target_modules), is_4bit=adapter.quantization is not None
        ),
        has_reference=has_reference,
        rewards=options.rewards,
    )


def size_tokens(policy: CodeShellConfig, options: StageOptions, ranks: int) -> StageTokens:
    """The largest passes of a stage on each of `ranks` GPUs, if every row is as long as it may be."""
    batch = options.count("per_device_train_batch_size") or 8
    held_out = options.count("per_device_eval_batch_size") or 8
    if options.stage == "rlhf":
        return _size_rollouts(policy, options, batch, held_out, ranks)
    rows = ROWS[options.method or options.stage]
    longest = options.count("max_length") or policy.n_positions
    tokens = StageTokens(
        trained=rows * batch * longest,
        held_out=(2 if options.stage != "sft" else 1) * held_out * longest,
        measured=_size_measure(policy, options.measure),
    )
    return replace(tokens, compared=tokens.trained) if options.stage == "dpo" else tokens


def _size_measure(policy: CodeShellConfig, measure: MeasureSettings | None) -> Sampled | None:
    if measure is None:
        return None
    room = policy.n_positions - measure.max_new_tokens
    prompt = min(room, measure.max_prompt_tokens or room)
    prompts = max(1, measure.batch_size // measure.per_prompt)
    return Sampled(measure.batch_size, prompts, prompt, measure.max_new_tokens)


def _size_rollouts(
    policy: CodeShellConfig, options: StageOptions, batch: int, held_out: int, ranks: int
) -> StageTokens:
    answer = options.count("max_completion_length") or 256
    room = policy.n_positions - answer
    prompt = min(room, options.longest_prompt or room)
    steps = options.count("steps_per_generation") or options.count("gradient_accumulation_steps") or 1
    of_all = options.count("generation_batch_size")
    rows = max(batch * steps if of_all is None else -(-of_all // ranks), held_out)
    scored = rows if options.rewards else min(rows, max(batch, held_out))
    return StageTokens(
        trained=batch * (prompt + answer),
        scored=scored * (prompt + answer),
        rollout=Sampled(rows, rows, prompt, answer),
        measured=_size_measure(policy, options.measure),
    )
