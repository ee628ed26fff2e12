"""When things happen: one short module a stage, run as `python -m recipes.<stage> recipes/<system>/<stage>.yaml`."""
