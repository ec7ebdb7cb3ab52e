"""From one file of a scanner, or one movie, to a video record.

`read_recording` opens a file, `to_record` makes what a builder writes.
"""

from echo_jax.data.ingest.reading import read_recording
from echo_jax.data.ingest.recording import Recording, to_record

__all__ = ["Recording", "read_recording", "to_record"]
