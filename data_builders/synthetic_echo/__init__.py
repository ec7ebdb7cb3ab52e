"""SynthEcho: a virtual cohort with perfect truth; needs no download.

Example:
  echo-jax build synthetic_echo --data-dir data --patients 200
  echo-jax build synthetic_echo --data-dir data --cohort clinic_like \\
    --name synthetic_echo_clinic_like --size 64 --codec raw --workers 2
"""

import argparse
import math
from collections.abc import Mapping
from functools import partial

import numpy as np

from echo_jax import simulate
from echo_jax.data import frames as coding
from echo_jax.data import schema
from echo_jax.data.build import Dataset, Item
from echo_jax.data.splits import check_shares, parse_shares

VERSION = "1.1.0"
SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
GRADES = ((0.4, "poor"), (0.7, "medium"), (1.01, "good"))
_GOLDEN = (math.sqrt(5) - 1) / 2


def add_options(parser: argparse.ArgumentParser) -> None:
  """Options of the virtual cohort."""
  parser.add_argument("--name", default="synthetic_echo", help="folder name")
  parser.add_argument(
    "--cohort", choices=simulate.COHORTS, default="independent",
    help="independent: EF drawn apart from everything; clinic_like: realistic",
  )  # fmt: skip
  parser.add_argument("--patients", type=int, default=200)
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
  shares = ",".join(f"{name}={share}" for name, share in SHARES.items())
  parser.add_argument(
    "--splits", default=shares, help=f"shares of the patients ({shares})"
  )


def from_options(args: argparse.Namespace) -> Dataset:
  """The data set that the command line asks for."""
  return dataset(
    name=args.name, cohort=args.cohort, patients=args.patients,
    seed=args.seed, size=args.size, duration_s=args.duration_s,
    clips=args.clips, views=tuple(args.views.split(",")), codec=args.codec,
    shares=parse_shares(args.splits),
  )  # fmt: skip


def dataset(
  *,
  name: str = "synthetic_echo",
  cohort: str = "independent",
  patients: int = 200,
  seed: int = 0,
  size: int = 112,
  duration_s: float | int = 2.0,
  clips: int = 1,
  views: tuple[str, ...] = ("A4C",),
  codec: str = "png",
  shares: Mapping[str, float] = SHARES,
) -> Dataset:
  """Lists a virtual cohort; nothing is simulated before it is read.

  Args:
    name: folder of the data set, one for each setting that is to be kept.
    cohort: "independent" or "clinic_like".
    patients: how many people; each has 1 to 3 studies.
    seed: of the cohort; another seed is other people.
    size: rows and columns of the frames.
    duration_s: length of a video.
    clips: videos a study and view.
    views: which of simulate.VIEWS; another than A4C fails in some studies.
    codec: raw, jpeg or png.
    shares: of the patients for each split, in sum 1.

  Raises:
    ValueError: shares that do not add up, too few patients to fill them, or
      a view that there is not.
  """
  items = tuple(
    Item(video_name(person_name(cohort, seed, p), facts), split, facts)
    for p, split in enumerate(split_patients(patients, shares))
    for study in range(simulate.count_studies(seed, p, cohort))
    for view, clip in simulate.study_clips(
      simulate.draw_study(seed, p, study, cohort), views, clips
    )
    for facts in [{"patient": p, "study": study, "view": view, "clip": clip}]
  )
  settings = {
    "cohort": cohort, "patients": patients, "seed": seed, "size": size,
    "duration_s": duration_s, "clips": clips, "views": list(views),
    "codec": codec,
    "shares": dict(shares),
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
      codec=codec,
    ),
  )  # fmt: skip


def person_name(cohort: str, seed: int, patient: int) -> str:
  """Name of a person, the same in every data set made from that cohort."""
  return f"{cohort}-{seed}-p{patient:05d}"


def video_name(person: str, facts: Mapping) -> str:
  """Name of a video; A4C, which came first, is not named in it."""
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
  codec: str,
) -> tuple[schema.Record, tuple[str, ...]]:  # fmt: skip
  """Simulates one video and makes its record."""
  patient, number = item.facts["patient"], item.facts["study"]
  study = simulate.draw_study(seed, patient, number, cohort)
  video = simulate.simulate_video(
    study, size=size, duration_s=duration_s, clip=item.facts["clip"],
    view=item.facts["view"],
  )  # fmt: skip
  sizes = simulate.measure_heart(study.heart)
  notes = (video.ef_caveat,) if video.ef_caveat else ()
  person = f"synthetic_echo:{person_name(cohort, seed, patient)}"
  record = schema.make_record(
    video_id=f"synthetic_echo:{item.name}",
    study_id=f"{person}-s{number}",
    patient_id=person,
    patient_known=1,
    kind="cine",
    split=item.split,
    quality=grade(video.quality),
    **_picture(video, codec),
    **{name: getattr(video, name) for name in _AS_SIMULATED},
    **{name: getattr(sizes, name) for name in _AS_MEASURED},
  )
  return record, notes


_AS_SIMULATED = (
  "site", "device", "view", "frame_time_ms", "spacing_mm", "ed_frame",
  "es_frame", "r_wave_ms", "volume_ml", "sex", "age_years", "heart_rate_bpm",
  "ef_pct", "edv_ml", "esv_ml", "ef_method",
)  # fmt: skip

_AS_MEASURED = (
  "ivsd_mm", "lvidd_mm", "lvpwd_mm", "ivss_mm", "lvids_mm", "lvpws_mm",
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
