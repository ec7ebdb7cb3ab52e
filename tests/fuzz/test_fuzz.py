"""Damaged DICOM, movies, tables, NIfTI and ECG are read or refused, always.

The short form runs with all tests; `pytest tests/fuzz -m long` runs 20,000
cases and more.
"""

import shutil

import numpy as np
import pytest
import stuck
from fuzzing import Limits, fuzz, mutate
from made_ecg import twelve, write_ecg, write_wfdb
from made_files import (
  drawn_clip,
  jpeg,
  region,
  rewrite,
  write_avi,
  write_coded,
  write_dicom,
  write_mp4,
)
from test_acdc import source as acdc_source  # noqa: F401
from test_camus import source as camus_source  # noqa: F401
from test_echonet_dynamic import source as echonet_dynamic_source  # noqa: F401
from test_echonet_lvh import source as echonet_lvh_source  # noqa: F401
from test_echonet_pediatric import (
  source as echonet_pediatric_source,  # noqa: F401
)
from test_ingest_doppler import drawn_spectrum, spectral
from test_mimic import source as mimic_iv_echo_source  # noqa: F401
from test_tmed2 import source as tmed2_source  # noqa: F401

BUILDERS = (
  "acdc", "camus", "echonet_dynamic", "echonet_lvh", "echonet_pediatric",
  "mimic_iv_echo", "tmed2",
)  # fmt: skip
KINDS = ("files", "study", "dicom_folder", *BUILDERS)
SHORT, LONG = 30, 2_500  # cases a kind


@pytest.fixture(scope="module")
def seeds(request, tmp_path_factory):
  """A folder of whole files for each kind."""
  root = tmp_path_factory.mktemp("seeds")
  for name in BUILDERS:
    made = request.getfixturevalue(f"{name}_source")
    shutil.copytree(made, root / name)
  write_files(root / "files")
  write_study(root / "study")
  (root / "dicom_folder").mkdir()
  shutil.copytree(root / "files", root / "dicom_folder" / "ward")
  return root


def write_files(folder):
  """Single files of every coding that needs no extra."""
  folder.mkdir()
  grey = drawn_clip(3)[:, ::4, ::4].copy()
  colour = np.repeat(grey[..., None], 3, -1)
  regions = [region(x1=60, y1=50)]
  times = {"FrameTime": "33.3", "RWaveTimeVector": [10.0, 60.0]}
  write_dicom(folder / "raw.dcm", grey, regions, **times)
  write_dicom(folder / "colour.dcm", colour, regions, **times)
  path = write_dicom(folder / "rle.dcm", grey, regions, **times)
  rewrite(path, "1.2.840.10008.1.2.5")
  path = write_dicom(folder / "deflated.dcm", grey, **times)
  rewrite(path, "1.2.840.10008.1.2.1.99")
  write_coded(
    folder / "jpeg.dcm", [jpeg(frame) for frame in grey], grey.shape,
    "1.2.840.10008.1.2.4.50", regions, **times,
  )  # fmt: skip
  write_ecg(folder / "ecg.dcm", [twelve()])
  write_avi(folder / "clip.avi", grey)
  write_mp4(folder / "clip.mp4", grey, [0, 20, 45])


def write_study(folder):
  """A cine, a spectrum, two ECGs and records, all small."""
  folder.mkdir()
  grey = drawn_clip(2)[:, ::4, ::4].copy()
  whose = {"PatientID": "4711", "StudyInstanceUID": "1.2.3"}
  write_dicom(folder / "cine.dcm", grey, [region(x1=60, y1=50)], **whose)
  write_dicom(folder / "pw.dcm", drawn_spectrum()[None], [spectral()], **whose)
  write_ecg(folder / "ecg.dcm", [twelve()])
  write_wfdb(folder, sex="female", age="60")
  (folder / "records.csv").write_text(
    "patient_id,age_years,sex,height_cm,carrier_ttn\n4711,60,F,178,no\n"
  )


def check(outcome, kinds, cases):
  """Each kind has cases that were read and cases that were refused."""
  assert not outcome.findings, outcome.findings[:20]
  assert sum(outcome.counts.values()) == cases * len(kinds)
  assert set(outcome.counts) == {
    (kind, ended) for kind in kinds for ended in ("read", "refused")
  }


def test_every_reader_reads_or_refuses(seeds):
  check(fuzz(seeds, KINDS, SHORT), KINDS, SHORT)


@pytest.mark.long
def test_every_reader_reads_or_refuses_20_000_times(seeds):
  outcome = fuzz(seeds, KINDS, LONG)
  for (kind, ended), count in sorted(outcome.counts.items()):
    print(f"{kind:20}{ended:12}{count:6d}")
  check(outcome, KINDS, LONG)


@pytest.mark.parametrize(
  ("reader", "finding"),
  [
    (stuck.waits, "still reading after 0.5 s"),
    (stuck.waits_deaf, "still reading"),
    (stuck.dies, "the process died"),
    (stuck.swells, "memory grew by"),
    (stuck.fails, "KeyError"),
  ],
)
def test_what_must_be_found_is_found(tmp_path, reader, finding):
  """A reader that ends badly in its first case of two, and well after it."""
  limits = Limits(seconds=0.5, growth_bytes=2**26)
  outcome = fuzz(tmp_path, ("any",), 2, limits=limits, reader=reader)
  (found,) = outcome.findings
  assert found.startswith("any 0: ") and finding in found
  # Counts of a child that died are lost.
  assert outcome.counts["any", "read"] in (1, 2)


def test_damage_is_the_same_each_time_and_is_damage():
  data = bytes(range(256)) * 8
  first, second = (
    [mutate(data, False, np.random.default_rng(k)) for k in range(50)]
    for _ in range(2)
  )
  assert first == second
  assert sum(one != data for one in first) >= 48
