"""What `predict` tells of a person: pseudonyms, and what `deid` would keep."""

from typing import Any

from echo_jax.data.ingest.dicom import Identity
from echo_jax.privacy.keys import Key
from echo_jax.privacy.rules import known_maker, known_model
from echo_jax.privacy.tags import OLDEST_YEARS


def whose(identity: Identity | None, name: str, key: Key) -> dict[str, Any]:
  """Ids, sex, age and device by the keys of the record.

  `name` stands for study and patient where no header names them.  Of a device
  known words only, 90 for an age of 90 or more.
  """
  own = {"study_id": f"file:{name}", "patient_id": f"file:{name}"}
  if identity is None:
    return own | {"patient_known": 0}
  if identity.study:
    own["study_id"] = f"file:{key.word('study', identity.study)}"
  if identity.patient:
    own["patient_id"] = f"file:{key.word('patient', identity.patient)}"
  device = known_maker(identity.maker), known_model(identity.model)
  known = {
    "sex": identity.sex, "age_years": min(identity.age_years, OLDEST_YEARS + 1),
    "device": " ".join(filter(None, device)),
  }  # fmt: skip
  return own | known | {"patient_known": int(bool(identity.patient))}
