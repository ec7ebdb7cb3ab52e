"""The rows of the paper's tables, one runnable file each."""
