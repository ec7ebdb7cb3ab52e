"""The echocardiographic view that a header states, as the record names it.

Source: DICOM PS3.16 CID 12226 (Echocardiography Image View), in SNOMED CT and
in the older SNOMED RT codes that machines still write (SRT, SNM3, 99SDM).
"""

from echo_jax.data.ingest.header import Header

# View of the record, SNOMED CT, SNOMED RT.  The schema has one word for all
# levels of the parasternal short axis, and one for subcostal views.
_CODES = (
  ("A4C", "399214001", "G-A19C"), ("A2C", "399232001", "G-A19B"),
  ("A3C", "399339008", "G-0395"), ("PLAX", "399139001", "G-0396"),
  ("PSAX", "399306005", "G-0397"), ("PSAX", "399239005", "G-0398"),
  ("PSAX", "399371001", "G-0399"), ("PSAX", "399036006", "G-039A"),
  ("PSAX", "399271003", "G-039B"), ("SC", "399310008", "G-039E"),
  ("SC", "399200001", "G-039F"),
)  # fmt: skip
VIEW_OF = {("SCT", new): view for view, new, _ in _CODES} | {
  (scheme, old): view
  for view, _, old in _CODES
  for scheme in ("SRT", "SNM3", "99SDM")
}


def view_in(header: Header) -> str:
  """View of `schema.VIEWS`; "" where none is coded, an unknown one, or two."""
  codes = {
    (item.text("CodingSchemeDesignator"), item.text("CodeValue"))
    for item in header.items("ViewCodeSequence")
  }
  views = {VIEW_OF.get(code, "") for code in codes}
  return views.pop() if len(views) == 1 else ""
