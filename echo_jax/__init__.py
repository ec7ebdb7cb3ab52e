"""Foundation models for echocardiogram video in JAX."""

__version__ = "0.1.0"
