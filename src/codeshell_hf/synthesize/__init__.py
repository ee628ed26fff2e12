"""Makes instruction data from code: a model invents problems, and what it says is checked by running it."""
