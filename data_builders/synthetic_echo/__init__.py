"""SynthEcho: a virtual cohort with perfect truth; needs no download.

Example:
  echo-jax build synthetic_echo --data-dir data --patients 200
  echo-jax build synthetic_echo --data-dir data --cohort clinic_like \\
    --name synthetic_echo_clinic_like --size 64 --codec raw --workers 2
  echo-jax build synthetic_echo --data-dir data --cohort referral \\
    --name synthetic_echo_referral --views A4C,A3C,PLAX --size 64
"""

import argparse
import dataclasses
import math
from collections.abc import Mapping
from functools import lru_cache, partial

import numpy as np

from echo_jax import simulate
from echo_jax.data import frames as coding
from echo_jax.data import schema
from echo_jax.data.build import Dataset, Item
from echo_jax.data.clinical import CLINICAL, GENETIC
from echo_jax.data.splits import check_shares, parse_shares

VERSION = "1.2.0"
SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
GRADES = ((0.4, "poor"), (0.7, "medium"), (1.01, "good"))
NO_SWITCHES = simulate.Switches()
_GOLDEN = (math.sqrt(5) - 1) / 2


def add_options(parser: argparse.ArgumentParser) -> None:
  """Options of the virtual cohort."""
  parser.add_argument("--name", default="synthetic_echo", help="folder name")
  parser.add_argument(
    "--cohort", choices=simulate.COHORTS, default="independent",
    help="independent: EF drawn apart from everything; clinic_like: realistic;"
    " referral: disease, valves, rhythm, with Doppler, ECG, records and genes",
  )  # fmt: skip
  parser.add_argument("--patients", type=int, default=200)
  parser.add_argument(
    "--studies", type=int, default=3, help="the most a patient may have (3)"
  )
  parser.add_argument("--seed", type=int, default=0, help="of the cohort")
  parser.add_argument("--size", type=int, default=112, help="pixels a side")
  parser.add_argument("--duration-s", type=float, default=2.0)
  parser.add_argument(
    "--clips", type=int, default=1, help="videos a study and view"
  )
  parser.add_argument(
    "--views", default="A4C", help=f"of {','.join(simulate.VIEWS)} (A4C)"
  )
  parser.add_argument(
    "--codec", choices=schema.CODECS, default="png",
    help="png is lossless; raw is larger and faster to read",
  )  # fmt: skip
  for field in dataclasses.fields(simulate.Switches):
    parser.add_argument(
      f"--{field.name.replace('_', '-')}", type=float, default=0.0,
      help="fault of the cohort referral, see simulate.Switches (0: none)",
    )  # fmt: skip
  shares = ",".join(f"{name}={share}" for name, share in SHARES.items())
  parser.add_argument(
    "--splits", default=shares, help=f"shares of the patients ({shares})"
  )


def from_options(args: argparse.Namespace) -> Dataset:
  """The data set that the command line asks for."""
  return dataset(
    name=args.name, cohort=args.cohort, patients=args.patients,
    studies=args.studies, seed=args.seed, size=args.size,
    duration_s=args.duration_s, clips=args.clips,
    views=tuple(args.views.split(",")), codec=args.codec,
    shares=parse_shares(args.splits),
    switches=simulate.Switches(
      *(getattr(args, field.name)
        for field in dataclasses.fields(simulate.Switches))
    ),
  )  # fmt: skip


def dataset(
  *,
  name: str = "synthetic_echo",
  cohort: str = "independent",
  patients: int = 200,
  studies: int = 3,
  seed: int = 0,
  size: int = 112,
  duration_s: float | int = 2.0,
  clips: int = 1,
  views: tuple[str, ...] = ("A4C",),
  codec: str = "png",
  shares: Mapping[str, float] = SHARES,
  switches: simulate.Switches = NO_SWITCHES,
) -> Dataset:
  """Lists a virtual cohort; nothing is simulated before it is read.

  Args:
    name: folder of the data set, one for each setting that is to be kept.
    cohort: one of simulate.COHORTS.  "referral" adds a recording for every
      spectrum that was taken, and to the first A4C clip the study's ECG.
    patients: how many people; each has 1 to 3 studies.
    studies: the most that a patient may have; the first are kept.
    seed: of the cohort; another seed is other people.
    size: rows and columns of the frames.
    duration_s: length of a video.
    clips: videos a study and view.
    views: which of simulate.VIEWS; another than A4C fails in some studies.
    codec: raw, jpeg or png.
    shares: of the patients for each split, in sum 1.
    switches: faults of the cohort "referral".

  Raises:
    ValueError: shares that do not add up, too few patients to fill them, or
      a view that there is not.
  """
  draw = partial(_draw_study, cohort, seed, switches)
  items = tuple(
    Item(video_name(person_name(cohort, seed, p), facts), split, facts)
    for p, split in enumerate(split_patients(patients, shares))
    for number in range(min(simulate.count_studies(seed, p, cohort), studies))
    for facts in _recordings(draw(p, number), views, clips)
  )
  settings = {
    "cohort": cohort, "patients": patients, "studies": studies, "seed": seed,
    "size": size, "duration_s": duration_s, "clips": clips,
    "views": list(views), "codec": codec, "shares": dict(shares),
    "switches": dataclasses.asdict(switches),
  }  # fmt: skip
  return Dataset(
    name=name,
    version=VERSION,
    description=f"SynthEcho, simulated {', '.join(views)} cines with the true "
    f"left-ventricular volume of every frame; cohort {cohort}.",
    settings=settings,
    items=items,
    read=partial(
      read_item, cohort=cohort, seed=seed, size=size, duration_s=duration_s,
      codec=codec, switches=switches,
    ),
  )  # fmt: skip


@lru_cache(maxsize=4)  # the recordings of a study follow one another
def _draw_study(
  cohort: str, seed: int, switches: simulate.Switches, patient: int, number: int
) -> simulate.Study:
  return simulate.draw_study(seed, patient, number, cohort, switches)


@lru_cache(maxsize=4)
def _labels_of_study(
  cohort: str, seed: int, switches: simulate.Switches, duration_s: float | int,
  patient: int, number: int,
) -> tuple[dict, str]:  # fmt: skip
  """Labels of a referred patient's study, and what to say of its EF."""
  study = _draw_study(cohort, seed, switches, patient, number)
  truth = simulate.study_truth(study, duration_s)
  read = simulate.read_by_someone(truth, study, switches)
  labels = read.labels()
  caveat = labels.pop("ef_caveat")
  condition = study.condition
  known = condition.record | condition.genes
  labels |= {
    column.name: known[column.name]
    for column in (*CLINICAL, *GENETIC)
    if known[column.name] is not None
  }
  return labels | {
    "ef_method": "reported" if switches.label_noise else "simulated",
    "disease": condition.disease,
    "study_day": float(condition.day),
    "arrhythmic_event_2y": int(condition.event_2y),
  }, caveat


def _recordings(
  study: simulate.Study, views: tuple[str, ...], clips: int
) -> list[dict]:
  """Facts of every recording of a study."""
  about = {"patient": study.patient.patient, "study": study.study}
  cines = [
    about | {"view": view, "clip": clip}
    for view, clip in simulate.study_clips(study, views, clips)
  ]
  spectra = study.condition.spectra if study.condition else ()
  return cines + [about | {"location": name} for name in spectra]


def person_name(cohort: str, seed: int, patient: int) -> str:
  """Name of a person, the same in every data set made from that cohort."""
  return f"{cohort}-{seed}-p{patient:05d}"


def video_name(person: str, facts: Mapping) -> str:
  """Name of a video; A4C, which came first, is not named in it."""
  if "location" in facts:
    return f"{person}-s{facts['study']}-{facts['location']}"
  view = "" if facts["view"] == "A4C" else f"-{facts['view'].lower()}"
  return f"{person}-s{facts['study']}{view}-c{facts['clip']}"


def split_patients(count: int, shares: Mapping[str, float]) -> list[str]:
  """Split of every patient; adding patients moves nobody.

  Numbers k * golden ratio modulo 1 fill [0, 1) evenly for every count, so
  splits have their shares even in a small cohort.  Patients are drawn alike
  whatever their number, so this order carries no information about them.
  """
  check_shares(shares)
  names = [name for name in schema.SPLITS if shares.get(name)]
  edges = np.cumsum([shares[name] for name in names])[:-1]
  place = (np.arange(count) + 0.5) * _GOLDEN % 1
  splits = [names[i] for i in np.searchsorted(edges, place, "right")]
  for name in names:
    if name not in splits:
      raise ValueError(
        f"{count} patients leave {name} empty at a share of "
        f"{shares[name]:g}; ask for at least {math.ceil(2 / shares[name])}"
      )
  return splits


def read_item(
  item: Item, *, cohort: str, seed: int, size: int, duration_s: float | int,
  codec: str, switches: simulate.Switches = NO_SWITCHES,
) -> tuple[schema.Record, tuple[str, ...]]:  # fmt: skip
  """Simulates one recording and makes its record."""
  facts = item.facts
  study = _draw_study(
    cohort, seed, switches, facts["patient"], facts["study"]
  )
  person = f"synthetic_echo:{person_name(cohort, seed, facts['patient'])}"
  made, caveat = (
    _spectrum(study, facts["location"], codec)
    if "location" in facts
    else _cine(study, facts, size, duration_s, codec)
  )
  if study.condition:
    labels, caveat = _labels_of_study(
      cohort, seed, switches, duration_s, facts["patient"], facts["study"]
    )
    made |= {"heart_rate_bpm": np.nan} | labels
  record = schema.make_record(
    video_id=f"synthetic_echo:{item.name}",
    study_id=f"{person}-s{facts['study']}",
    patient_id=person,
    patient_known=1,
    split=item.split,
    quality=grade(study.quality),
    **made,
  )
  return record, (caveat,) if caveat else ()


def _cine(
  study: simulate.Study, facts: Mapping, size: int, duration_s: float | int,
  codec: str,
) -> tuple[dict, str]:  # fmt: skip
  """Keys of a cine's record, and what to say of its EF."""
  video = simulate.simulate_video(
    study, size=size, duration_s=duration_s, clip=facts["clip"],
    view=facts["view"],
  )  # fmt: skip
  sizes = simulate.measure_heart(study.heart)
  made = {
    "kind": "cine",
    "lv_mass_g": sizes.mass_g,
    "rhythm": study.heart.rhythm,
    **_picture(video, codec),
    **{name: getattr(video, name) for name in _AS_SIMULATED},
    **{name: getattr(sizes, name) for name in _AS_MEASURED},
  }
  first = facts["view"] == "A4C" and facts["clip"] == 0
  if study.condition and study.condition.has_ecg and first:
    ecg = simulate.simulate_study_ecg(study, video_s=duration_s)
    made |= {
      "ecg_mv": ecg.mv, "ecg_hz": ecg.hz, "ecg_leads": ",".join(ecg.leads),
    }  # fmt: skip
  return made, video.ef_caveat


def _spectrum(
  study: simulate.Study, location: str, codec: str
) -> tuple[dict, str]:
  """Keys of a spectrum's record."""
  made = simulate.simulate_study_doppler(study, location)
  frames = made.picture[None, ..., None]
  person = study.patient
  return {
    "frames": coding.encode_frames(frames, codec),
    "frames_codec": codec,
    "frames_shape": np.array(frames.shape[1:], np.int32),
    "frame_time_ms": np.zeros(1, np.float32),
    "r_wave_ms": made.r_wave_ms.astype(np.float32),
    "doppler_location": location,
    "site": person.site,
    "sex": person.sex,
    **made.labels(),
  }, ""


_AS_SIMULATED = (
  "site", "device", "view", "frame_time_ms", "spacing_mm", "ed_frame",
  "es_frame", "r_wave_ms", "volume_ml", "sex", "age_years", "heart_rate_bpm",
  "ef_pct", "edv_ml", "esv_ml", "ef_method", "ef_beat_pct",
)  # fmt: skip

_AS_MEASURED = (
  "ivsd_mm", "lvidd_mm", "lvpwd_mm", "ivss_mm", "lvids_mm", "lvpws_mm",
  "la_ml", "rv_basal_mm",
)  # fmt: skip


def _picture(video: simulate.SimulatedVideo, codec: str) -> dict:
  """Coded frames and masks."""
  frames = video.frames[..., None]
  return {
    "frames": coding.encode_frames(frames, codec),
    "frames_codec": codec,
    "frames_shape": np.array(frames.shape[1:], np.int32),
    "sector": coding.encode_mask(video.sector),
    "lv_mask": [coding.encode_mask(mask) for mask in video.lv_mask],
  }


def grade(quality: float) -> str:
  """poor, medium or good from a quality of 0 to 1."""
  return next(name for below, name in GRADES if quality < below)
