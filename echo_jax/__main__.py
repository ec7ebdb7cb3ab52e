"""`python -m echo_jax` is `echo-jax`."""

from echo_jax.cli import main

if __name__ == "__main__":
  raise SystemExit(main())
