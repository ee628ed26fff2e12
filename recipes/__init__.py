"""The stages, one short program each: `codeshell STAGE recipes/SYSTEM/STAGE.yaml`, or `python -m recipes.STAGE`."""
