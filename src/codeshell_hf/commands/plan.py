"""Estimates a run before it starts: memory by part; of pretraining also steps, communication, days and disk.

codeshell plan recipes/codeshell-7b/pretrain.yaml gpus=128 gpu=a100-80g accelerate=recipes/accelerate/fsdp2.yaml
codeshell plan recipes/codeshell-small/pretrain.yaml gpus=8 gpu=h100-80g attention=varlen_fa4
codeshell plan recipes/codeshell-7b/rlhf.yaml

gpus, gpu (a100-40g, a100-80g, h100-80g, h200-141g, b200-180g), mfu (share of the peak, for causal attention; predicted
by default) and network (of each GPU to other nodes, in GB/s) are the plan's own; every other section.key=value
overrides the recipe, as in a run. For sft, reward, rlhf and dpo, accelerate=FILE is the plan's own too, and launch.yaml
beside the recipe says what is not given.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..stages.process import make_parser, run
from .plan_alignment import STAGES, plan_alignment
from .workspace import find_file, use_workspace

CLUSTER = ("gpus", "gpu", "mfu", "network")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the plan; returns 0, or 2 if the run does not fit."""
    parser = make_parser("plan", __doc__)
    parser.add_argument("settings", type=Path, help="such as recipes/codeshell-7b/pretrain.yaml")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="gpus, gpu, mfu, network, or a setting of the recipe"
    )
    options = parser.parse_args(arguments)

    def work() -> None:
        use_workspace()
        stage, path = options.settings.stem.partition("-")[0], find_file(options.settings)
        given = dict(option.partition("=")[::2] for option in options.overrides)
        own = ("gpus", "gpu", "accelerate") if stage in STAGES else CLUSTER
        cluster = {name: given.pop(name) for name in own if name in given}
        overrides = [f"{key}={value}" for key, value in given.items()]
        planned = plan_alignment(stage, path, cluster, overrides) if stage in STAGES else plan(path, cluster, overrides)
        print(*planned, sep="\n")

    return run("plan", work)


def plan(path: Path, cluster: Mapping[str, str], overrides: Sequence[str]) -> list[str]:
    """Plans the run of a pretraining recipe; returns lines to print.

    Args:
        path: The recipe.
        cluster: Values by the names of `CLUSTER`.
        overrides: Changes of the recipe.

    Raises:
        SettingsError: If a value is not a number, or the run does not fit; the error suggests a layout that does.
    """
    from ..errors import SettingsError
    from ..settings import load_settings
    from ..train.memory import Layout
    from ..train.model import configure_model
    from ..train.plan import Plan, describe_disk, describe_evaluation, read_cluster
    from ..train.schedule import plan_steps
    from ..train.sharding import check_fp8, check_model, check_optimizer, read_sharding

    pretrain = importlib.import_module("recipes.pretrain")
    settings = load_settings(pretrain.Settings, path, overrides)
    schedule = settings.schedule
    gpus = read_cluster(**cluster)
    # The shards are not needed, and may be elsewhere.
    config = configure_model(settings.model, None, longest_row=max(schedule.row_lengths))
    sharding, precision = read_sharding(settings.accelerate, precision=settings.precision)
    check_model(config, sharding, schedule.row_lengths)
    if gpus.gpus % (sharding.replicas * sharding.together):
        raise SettingsError(
            f"gpus is {gpus.gpus}, which {sharding.replicas} replicas "
            + (f"of tp {sharding.tensor} x cp {sharding.context} " if sharding.together > 1 else "")
            + "do not divide; set a multiple"
        )
    is_bf16 = precision != "float32"  # every known GPU is fast in bfloat16
    check_optimizer(settings.optimizer, sharding, gpus.gpus, is_bf16=is_bf16)
    check_fp8(config, settings.fp8, sharding)
    layout = Layout(
        kind=sharding.kind,
        stage=sharding.stage,
        ranks=gpus.gpus,
        replicas=sharding.replicas,
        reshards=sharding.reshards,
        micro_tokens=settings.batch.micro_tokens,
        is_bf16=is_bf16,
        recomputes=settings.gradient_checkpointing,
        offloads=sharding.offloads,
        optimizer=settings.optimizer.name,
        moments=settings.optimizer.moments,
        weights=settings.optimizer.weights,
        tensor=sharding.tensor,
        context=sharding.context,
        fp8=settings.fp8,
    )
    steps = plan_steps(settings.batch, schedule, layout.readers)
    return [
        *Plan(config, layout, gpus, settings.batch, schedule, settings.attention, str(sharding)).describe(),
        describe_evaluation(config, layout, gpus.device, steps, settings.evaluation),
        describe_disk(config, layout, steps, settings.checkpoint, settings.evaluation),
    ]
