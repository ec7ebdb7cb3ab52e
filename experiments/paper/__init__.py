"""The paper's tables: a file a row; `echo-jax table` prints them."""
