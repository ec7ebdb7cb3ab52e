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
    severity: 0 to 1, falls where treatment helps; 0 in health.  Of valvular
      disease only the leak follows it: the aortic valve narrows by itself.
    day: since the patient's first study.
    treated: whether treatment that changes the heart has begun.
    valves: openings and what leaks; the truth behind flow and grades.
    scar_pct: share of the LV muscle that is scar.
    event_2y: whether a ventricular arrhythmia comes within two years; drawn
      for each study alone, so those of one patient may contradict.
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
    device_confounding: chance, at each study, that a diseased patient is put
      on device-c and a healthy one on device-a, instead of the device drawn.
    site_shift: 0 to 1; chance that a study of site-3 is made on device-c
      instead, and, times 0.3, by how much its windows are poorer.  Both
      devices hang on one draw: a device_confounding as high as this leaves
      only the windows.
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
