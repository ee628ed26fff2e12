"""Training: schedules in tokens, optimisers, checkpoints that can be trusted, and what a step costs."""
