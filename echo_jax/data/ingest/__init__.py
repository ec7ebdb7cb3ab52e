"""From one file of a scanner, or one movie, to a video record.

`read_recording` opens a file, `to_record` makes what a builder writes.  With
`AS_IS` for codec the owner's JPEG frames are kept where they can be, and
`as_is_notes` says in the ledger where they could not.
"""

from echo_jax.data.ingest.reading import read_recording
from echo_jax.data.ingest.recording import (
  AS_IS,
  Recording,
  as_is_notes,
  to_record,
)  # fmt: skip

__all__ = ["AS_IS", "Recording", "as_is_notes", "read_recording", "to_record"]
