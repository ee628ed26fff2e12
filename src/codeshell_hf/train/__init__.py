"""Pretraining: schedules in tokens, optimisers, sharding, checkpoints, and the cost of a step."""
