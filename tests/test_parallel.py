"""The plans of the model, applied by transformers itself on two gloo ranks."""

from pathlib import Path

import pytest

from tests.warm import start

GOLDEN = Path(__file__).parent / "data" / "golden" / "plain"

# transformers' own pipeline runner knows decoders whose blocks are called `layers` alone; the pipeline plan is read by
# serving engines.
SCRIPT = """
import sys
import torch
import torch.distributed as dist
import codeshell_hf
from transformers import AutoModelForCausalLM
from transformers.distributed import DistributedConfig

kind, folder = sys.argv[1:]
ids = torch.arange(24).view(2, 12) + 3
reference = AutoModelForCausalLM.from_pretrained(folder).train()
expected = reference(ids, labels=ids)
expected.loss.backward()

dist.init_process_group("gloo")
config = DistributedConfig(**{f"{kind}_size": 2})
model = AutoModelForCausalLM.from_pretrained(folder, distributed_config=config).train()
whole = lambda tensor: tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
outputs = model(ids, labels=ids)
outputs.loss.backward()

sharded = [name for name, parameter in model.named_parameters() if type(parameter).__name__ == "DTensor"]
assert {"transformer.wte.weight", "transformer.h.0.mlp.c_fc.weight"} <= set(sharded), sharded
assert (whole(outputs.logits) - expected.logits).abs().max() < 1e-5
for name, parameter in model.named_parameters():
    wanted = reference.get_parameter(name).grad
    assert (whole(parameter.grad) - wanted).norm() <= 1e-4 * wanted.norm() + 1e-7, name
dist.barrier()
print("HELD", len(sharded))
dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tp", "fsdp"])
def test_two_ranks_compute_what_one_does(tmp_path: Path, kind: str) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)

    process = start(str(tmp_path / "script.py"), kind, str(GOLDEN), ranks=2, is_warm=True)
    printed = process.communicate(timeout=240)[0]

    assert process.returncode == 0, printed[-3000:]
    assert printed.count("HELD") == 2
