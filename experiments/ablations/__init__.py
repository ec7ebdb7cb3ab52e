"""One question a file: what a part of the method is worth.

Each has a `sweep()` for `echo-jax sweep`, and `echo-jax table --runs DIR` makes
its table from the result folders.  What a pre-training is worth is seen in what
it is fine-tuned for: `echo-jax sweep ROW --from DIR`.  Seeds stand for what
they draw: where all begin from one run (`runs/mae`), for the fine-tuning alone.
"""
