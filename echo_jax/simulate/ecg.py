"""Twelve-lead ECG in step with the beats: a moving dipole, seen from outside.

Every wave is a Gaussian event in time with a direction, the sum of which is
what the dynamical model of McSharry et al. 2003 (10.1109/TBME.2003.808805)
traces on its cycle, as a dipole in three dimensions (Sameni et al. 2007,
10.1155/2007/43407).  Frank's axes: x to the left, y to the feet, z to the
back.  Sizes, times and directions of the waves were chosen so that the twelve
leads look as a cardiologist expects; where a number has a source it is named.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, Float32

from echo_jax.simulate import rhythm
from echo_jax.simulate.person import ECG, RHYTHM, Study, make_rng
from echo_jax.simulate.views import VIEWS, beat_stream

Events = Float[np.ndarray, "_ 5"]  # of any number

HZ = 500.0
LEADS = (
  "I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6",
)  # fmt: skip
RECORDED = (0, 1, 6, 7, 8, 9, 10, 11)  # I, II, V1-V6; the others follow
# A step of a recorder.  A power of two, so that sums and halves of leads are
# exact in float32 and the identities between leads hold to the last bit.
STEP_MV = 2.0**-10

# Leads I, II, V1-V6 from Frank's x, y, z (Dower, Machado and Osborne 1980,
# 10.1002/clc.1980.3.2.87).
DOWER = np.array(
  [
    [0.632, -0.235, 0.059],
    [0.235, 1.066, -0.132],
    [-0.515, 0.157, -0.917],
    [0.044, 0.164, -1.387],
    [0.882, 0.098, -1.277],
    [1.213, 0.127, -0.601],
    [1.125, 0.127, -0.086],
    [0.831, 0.076, 0.230],
  ]
)

# Events: ms from the R wave (T: from its peak), width (standard deviation) in
# ms, then x, y, z in mV.
NARROW_QRS = np.array(
  [
    [-24, 7.0, -0.16, -0.06, -0.22],
    [-7, 8.0, 0.55, 0.35, -0.42],
    [3, 9.0, 1.05, 0.90, 0.25],
    [19, 9.0, 0.20, 0.02, 0.75],
    [33, 8.0, -0.20, -0.12, 0.28],
  ]
)
BLOCK_QRS = np.array(
  [
    [-52, 8.0, 0.14, 0.08, 0.06],
    [-33, 9.0, 0.48, 0.15, 0.45],
    [-17, 8.0, 0.60, 0.20, 0.70],
    [0, 8.0, 0.68, 0.75, 0.85],
    [16, 9.0, 0.62, 0.17, 0.70],
    [35, 10.0, 0.92, 0.10, 0.65],
    [55, 9.0, 0.35, -0.10, 0.35],
  ]
)
ECTOPIC_QRS = np.array(
  [
    [-54, 9.0, 0.16, 0.12, 0.06],
    [-36, 10.0, 0.45, 0.28, 0.40],
    [-17, 9.0, 0.72, 0.60, 0.85],
    [0, 8.5, 1.15, 1.85, 1.35],
    [17, 9.0, 0.66, 0.28, 0.95],
    [36, 11.0, 0.66, 0.10, 0.75],
    [55, 9.0, 0.20, -0.10, 0.30],
  ]
)
# From where to where some lead is beyond 0.05 mV in the complexes above.
NARROW_MS, BLOCK_MS, ECTOPIC_MS = 87.0, 139.0, 142.0
WIDE_MS = 130.0  # the shortest that is drawn as a wide one; chosen
ONSET = 0.45  # this share of a complex lies before its R wave
# A T wave rises more slowly than it falls.
NARROW_T = np.array(
  [[-42, 42.0, 0.14, 0.11, -0.06], [0, 27.0, 0.20, 0.16, -0.13]]
)
WIDE_T = np.array(
  [[-48, 46.0, -0.17, -0.08, -0.26], [0, 30.0, -0.18, -0.08, -0.22]]
)
P_WAVE = np.array(
  [[-18, 17.0, 0.070, 0.075, -0.040], [14, 17.0, 0.090, 0.070, 0.045]]
)
F_WAVE_MV = np.array([0.020, 0.030, 0.060])
T_TAIL_MS = 54.0  # from the peak of the T wave to its end, two widths


@dataclasses.dataclass(frozen=True)
class Waves:
  """One person's waves: events as rows of ms, width in ms, and x, y, z in mV.

  Attributes:
    narrow, block, ectopic: QRS complexes, about the R wave.
    narrow_ms, wide_ms: their durations.
    narrow_t, block_t, ectopic_t: T waves, about their peaks.
    p: P wave, about its middle.
    pr_ms: from the beginning of the P wave to that of the QRS complex.
    qtc_ms: QT at 60 bpm with a narrow QRS complex.
    f_wave_mv: size of the f waves along x, y and z.
    f_wave_hz: their mean frequency.
  """

  narrow: Events
  block: Events
  ectopic: Events
  narrow_ms: float
  wide_ms: float
  narrow_t: Events
  block_t: Events
  ectopic_t: Events
  p: Events
  pr_ms: float
  qtc_ms: float
  f_wave_mv: Float[np.ndarray, "3"]
  f_wave_hz: float


@dataclasses.dataclass(frozen=True)
class SimulatedECG:
  """A record without faults and what is true about it.

  Attributes:
    mv: float32, `LEADS`; time 0 is the first frame of the video.
    hz: samples a second.
    leads: names, as `LEADS`.
    beats: the run of beats, that of the video and on.
    r_wave_ms: R waves within the record.
    qt_ms: of a regular beat, as drawn; with the block its QRS is wide.
  """

  mv: Float32[np.ndarray, "s l"]
  hz: float
  leads: tuple[str, ...]
  beats: rhythm.Beats
  r_wave_ms: Float[np.ndarray, "beats"]
  qt_ms: float


def qt_ms(qtc_ms: float, rr_s: float) -> float:
  """QT at an R-R interval: QTc times its cube root (Fridericia 1920)."""
  return qtc_ms * rr_s ** (1 / 3)


def derive_leads(
  recorded_mv: Float[np.ndarray, "s 8"],
) -> Float32[np.ndarray, "s l"]:
  """All twelve leads of I, II and V1-V6, in steps of `STEP_MV`.

  Einthoven: III = II - I.  Goldberger: aVR = -(I + II) / 2, and so on.
  """
  recorded = np.rint(np.asarray(recorded_mv) / STEP_MV) * STEP_MV
  one, two = recorded[:, 0], recorded[:, 1]
  limb = (one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2)
  mv = np.concatenate([np.stack(limb, axis=-1), recorded[:, 2:]], axis=-1)
  return mv.astype(np.float32)


def _turn(events, frontal_deg: float, level_deg: float):
  """Turns events in the frontal plane, then in the horizontal one."""
  a, b = math.radians(frontal_deg), math.radians(level_deg)
  frontal = np.array(
    [[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]]
  )
  level = np.array(
    [[math.cos(b), 0, -math.sin(b)], [0, 1, 0], [math.sin(b), 0, math.cos(b)]]
  )
  turned = events.copy()
  turned[:, 2:] = events[:, 2:] @ (level @ frontal).T
  return turned


def _scale(events, time: float, size: float):
  """Events stretched in time and in size."""
  return events * np.array([time, time, size, size, size])


def draw_waves(rng: np.random.Generator, sex: str, wide_qrs_ms: float) -> Waves:
  """One person's waves, about those of this file; all spreads were chosen.

  QTc is 10 ms longer in women, as its upper limits are, 460 and 450 ms
  (Rautaharju et al. 2009).  F waves beat at 4 to 9 Hz.

  Raises:
    ValueError: the wide QRS complex is below `WIDE_MS`.
  """
  if not wide_qrs_ms >= WIDE_MS:
    raise ValueError(
      f"wide QRS is {wide_qrs_ms:g} ms, wants {WIDE_MS:g} or more"
    )
  normal = np.clip(rng.normal(size=9), -2, 2).tolist()
  frontal, level = 13 * normal[0], 9 * normal[1]
  size, t_size = math.exp(0.18 * normal[2]), math.exp(0.2 * normal[3])
  narrow_ms = 92 + 7 * normal[4]
  return Waves(
    narrow=_turn(
      _scale(NARROW_QRS, narrow_ms / NARROW_MS, size), frontal, level
    ),
    block=_turn(
      _scale(BLOCK_QRS, wide_qrs_ms / BLOCK_MS, size), frontal / 2, level / 2
    ),
    ectopic=_turn(
      _scale(ECTOPIC_QRS, wide_qrs_ms / ECTOPIC_MS, size), frontal, level / 2
    ),
    narrow_ms=narrow_ms,
    wide_ms=wide_qrs_ms,
    narrow_t=_turn(_scale(NARROW_T, 1.0, t_size), frontal / 2, level),
    block_t=_scale(WIDE_T, 1.0, t_size),
    ectopic_t=_scale(WIDE_T, 1.0, 1.4 * t_size),
    p=_scale(P_WAVE, 1.0, math.exp(0.15 * normal[5])),
    pr_ms=160 + 14 * normal[6],
    qtc_ms=(405 if sex == "M" else 415) + 12 * normal[7],
    f_wave_mv=F_WAVE_MV * math.exp(0.25 * normal[8]),
    f_wave_hz=float(rng.uniform(4.8, 7.5)),
  )


def regular_qt_ms(waves: Waves, pattern: rhythm.Pattern) -> float:
  """QT of a run's regular beats, from the mean rate and their QRS."""
  wide_ms = waves.wide_ms if pattern.usual == "block" else waves.narrow_ms
  return _drawn_qt_ms(waves, pattern.mean_s, wide_ms)


def _drawn_qt_ms(waves, mean_s, qrs_ms):
  """Longer by what the QRS complex is longer than a narrow one."""
  return qt_ms(waves.qtc_ms, mean_s) + (qrs_ms - waves.narrow_ms)


def place_events(waves: Waves, beats: rhythm.Beats) -> Events:
  """Every wave of a run of beats, in ms from the first frame.

  The QT interval follows the mean rate, as it adapts over minutes, and is
  longer by what a wide QRS complex is longer than a narrow one.  A P wave that
  an ectopic beat forestalls comes at its own time, half way in the pause.
  """
  shapes = {
    "ectopic": (waves.ectopic, waves.ectopic_t, waves.wide_ms),
    "block": (waves.block, waves.block_t, waves.wide_ms),
  }
  usual = (waves.narrow, waves.narrow_t, waves.narrow_ms)
  r_waves = beats.r_wave_ms.tolist()
  lead_ms = ONSET * waves.narrow_ms + waves.pr_ms - 50  # P middle to R
  rows = []
  for i, (r_wave, kind) in enumerate(zip(r_waves, beats.kind, strict=True)):
    qrs, t_wave, wide_ms = shapes.get(kind, usual)
    qt = _drawn_qt_ms(waves, beats.pattern.mean_s, wide_ms)
    end = qt - ONSET * wide_ms
    rows.append(_shift(qrs, r_wave))
    rows.append(_shift(t_wave, r_wave + end - T_TAIL_MS))
    if beats.atrial[i]:
      middle = r_wave - ONSET * wide_ms - waves.pr_ms + 50
      rows.append(_shift(waves.p, middle))
    elif kind == "ectopic" and i + 1 < len(r_waves):
      sinus = (r_wave - beats.before_ms[i, 0] + r_waves[i + 1]) / 2
      rows.append(_shift(waves.p, sinus - lead_ms))
  return np.concatenate(rows)


def _shift(events, by_ms: float):
  shifted = events.copy()
  shifted[:, 0] += by_ms
  return shifted


def sum_events(
  events: Events, samples: int, hz: float
) -> Float[np.ndarray, "s 3"]:
  """The dipole in mV: all events, each drawn out to 4.5 widths."""
  dipole = np.zeros((samples, 3))
  step_ms = 1000 / hz
  first = np.ceil((events[:, 0] - 4.5 * events[:, 1]) / step_ms)
  last = np.floor((events[:, 0] + 4.5 * events[:, 1]) / step_ms) + 1
  first = np.clip(first, 0, samples).astype(int).tolist()
  last = np.clip(last, 0, samples).astype(int).tolist()
  for event, a, b in zip(events, first, last, strict=True):
    away = (np.arange(a, b) * step_ms - event[0]) / event[1]
    dipole[a:b] += np.exp(-0.5 * away * away)[:, None] * event[2:]
  return dipole


def draw_f_waves(
  rng: np.random.Generator, waves: Waves, samples: int, hz: float
) -> Float[np.ndarray, "s 3"]:
  """Dipole of the fibrillating atria in mV.

  A sawtooth of three harmonics whose size and frequency sway slowly, after
  Stridh and Sornmo 2001; largest in V1 and out of step between the axes.  The
  sway was chosen.
  """
  time = np.arange(samples)[:, None] / hz
  turn = 2 * math.pi
  lag, drift, swell = turn * rng.random((3, 1, 3))
  phase = turn * waves.f_wave_hz * time + lag
  phase = phase + 0.25 / 0.23 * np.sin(turn * 0.23 * time + drift)
  size = waves.f_wave_mv * (1 + 0.35 * np.sin(turn * 0.11 * time + swell))
  return size * sum(np.sin(k * phase) / k for k in (1, 2, 3))


def simulate_ecg(
  study: Study,
  *,
  duration_s: float | int = 10.0,
  video_s: float | int = 2.0,
  clip: int = 0,
  view: str = "A4C",
) -> SimulatedECG:
  """Twelve leads at 500 Hz that begin with a video of the same study.

  The beats of the video are those of `simulate_video(study,
  duration_s=video_s, clip=clip, view=view)`; the run goes on where the record
  is longer.  A person keeps the shape of the waves from study to study.

  Raises:
    ValueError: a duration that is not above 0, or no such view.
  """
  if duration_s <= 0 or video_s <= 0:
    raise ValueError(
      f"need durations above 0 s, not {duration_s} s and {video_s} s of video"
    )
  person, state = study.patient, study.heart
  more, number = beat_stream(view), VIEWS.index(view)
  beats = rhythm.draw_beats(
    study.rng(RHYTHM, clip, *more), state.rhythm, state.heart_rate_bpm, video_s
  )
  beats = rhythm.continue_beats(
    study.rng(ECG, 0, clip, number), beats, duration_s
  )
  shape = make_rng(person.seed, person.patient, 0, ECG, 2)
  waves = draw_waves(shape, person.sex, state.wide_qrs_ms)
  samples = math.ceil(duration_s * HZ - 1e-9)
  dipole = state.voltage * sum_events(place_events(waves, beats), samples, HZ)
  if state.rhythm == "atrial_fibrillation":
    dipole += draw_f_waves(study.rng(ECG, 1, clip, number), waves, samples, HZ)
  times = beats.r_wave_ms
  within = (times >= 0) & (times <= 1000 * (samples - 1) / HZ)
  return SimulatedECG(
    mv=derive_leads(dipole @ DOWER.T),
    hz=HZ,
    leads=LEADS,
    beats=beats,
    r_wave_ms=times[within],
    qt_ms=regular_qt_ms(waves, beats.pattern),
  )
