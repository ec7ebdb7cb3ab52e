"""What one study of a referred patient is about, beside the heart's motion."""

import dataclasses

from echo_jax.simulate.flow import Valves

DISEASES = (
  "none", "dilated", "hypertrophic", "infiltrative", "ischaemic", "valvular",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Condition:
  """State of a patient on the day of a study.

  Attributes:
    disease: one of `DISEASES`; what the patient has, of any severity.
    severity: 0 to 1, falls where treatment helps.
    day: since the patient's first study.
    treated: whether treatment that changes the heart has begun.
    valves: openings and what leaks; the truth behind flow and grades.
    scar_pct: share of the LV muscle that is scar.
    event_2y: whether a ventricular arrhythmia comes within two years.
    record: clinical columns as known to the clinic, None where not (see
      `data.clinical.CLINICAL` for names and units).
    genes: genetic columns as known, None where not tested.
    spectra: locations (`doppler.LOCATIONS`) of which a spectrum was taken.
    has_ecg: whether an ECG was.
  """

  disease: str
  severity: float
  day: float
  treated: bool
  valves: Valves
  scar_pct: float
  event_2y: bool
  record: dict[str, float | str | None]
  genes: dict[str, float | str | None]
  spectra: tuple[str, ...]
  has_ecg: bool


@dataclasses.dataclass(frozen=True)
class Switches:
  """Faults of data sets, to test that evaluation notices them; 0 is none.

  All but `label_noise` change what is drawn, never the hearts: the patients
  of two cohorts that differ in switches are the same people.

  Attributes:
    device_confounding: chance that a diseased patient is put on device-c and
      a healthy one on device-a, instead of the device drawn.
    site_shift: 0 to 1; site-3 has only device-c, and windows poorer by 0.3
      times this.
    quality_loss: taken off every patient's quality, 0 to 1.
    label_noise: spread of the reader in units of `truth.READER_SPREAD`.
  """

  device_confounding: float = 0.0
  site_shift: float = 0.0
  quality_loss: float = 0.0
  label_noise: float = 0.0

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      most = 5.0 if field.name == "label_noise" else 1.0
      if not 0 <= value <= most:
        raise ValueError(
          f"{field.name} is {value:g}; it must lie from 0 (off) to {most:g}"
        )
