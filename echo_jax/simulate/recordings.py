"""Spectra and ECG of a study as a clinic would record them, faults and all."""

import dataclasses

from echo_jax.simulate import doppler, ecg_faults, flow, heart, rhythm
from echo_jax.simulate.ecg import LEADS, SimulatedECG, simulate_ecg
from echo_jax.simulate.person import Study

SPECTRUM, ECG_FAULTS = 40, 41  # streams


def valves_of(study: Study) -> flow.Valves:
  """The study's valves; healthy ones where the cohort has no disease."""
  if study.condition is not None:
    return study.condition.valves
  return flow.healthy_valves(study.patient.bsa_m2)


def simulate_study_doppler(
  study: Study, location: str, clip: int = 0
) -> doppler.SimulatedDoppler:
  """One spectrum of a study, on the machine that took its cines.

  Its beats are of their own, as it was taken at another moment.

  Args:
    study: from `draw_study`.
    location: key of `doppler.LOCATIONS`.
    clip: another recording, with other beats and other noise.

  Raises:
    ValueError: no such location.
  """
  if location not in doppler.LOCATIONS:
    names = ", ".join(doppler.LOCATIONS)
    raise ValueError(f"location {location!r} is none of {names}")
  number = list(doppler.LOCATIONS).index(location)
  names = [preset.name for preset in doppler.PRESETS]
  preset = doppler.PRESETS[names.index(study.device.name)]
  rng = study.rng(SPECTRUM, number, clip)
  state = study.heart
  beats = rhythm.draw_beats(
    rng, state.rhythm, state.heart_rate_bpm, preset.sweep_s
  )
  ventricle = heart.build_ventricle(state)
  flows = flow.sample_beats(ventricle, valves_of(study), beats)
  peak = doppler.find_peak_cm_s(location, flows)
  # the gain of a hasty hand, and a poorer window's noise
  gain = float(rng.normal(0, 1.5)) - 3 * (1 - study.quality)
  display = doppler.set_display(location, preset, peak, gain)
  return doppler.simulate_doppler(
    location, flows, float(beats.r_wave_ms[0]), preset, display, rng
  )


def simulate_study_ecg(
  study: Study, *, duration_s: float | int = 10.0, video_s: float | int = 2.0
) -> SimulatedECG:
  """Twelve leads with noise, hum, wander and at times a lead that came off.

  Its beats are those of the study's first A4C clip.  Sizes of the faults are
  chosen; a chest lead is off in one record of twelve.
  """
  made = simulate_ecg(study, duration_s=duration_s, video_s=video_s)
  rng = study.rng(ECG_FAULTS)
  mv = ecg_faults.add_noise(made.mv, rng, float(rng.uniform(0.004, 0.025)))
  mv = ecg_faults.add_wander(mv, rng, made.hz, float(rng.uniform(0.0, 0.2)))
  hum = float(rng.uniform(0, 0.02))
  mv = ecg_faults.add_hum(mv, rng, made.hz, hum)
  if rng.random() < 1 / 12:
    lead = LEADS[6 + int(rng.integers(6))]
    mv = ecg_faults.drop_leads(mv, [lead])
  return dataclasses.replace(made, mv=mv)
