"""`echo-jax inspect`: facts, warnings, JSON, picture and exit codes."""

import json

import cv2
import numpy as np
import pydicom.data
import pytest
from made_ecg import HZ, channel, group, twelve, write_ecg, write_wfdb
from made_files import drawn_clip, region, write_avi, write_dicom
from made_signals import made_ecg
from pydicom.examples import get_path

from echo_jax.cli import main
from echo_jax.data.signals import LEADS

CLIP = drawn_clip(6)


@pytest.fixture
def cine():
  """A real cine whose pixels were halved and whose header was not."""
  return str(get_path("ybr_color"))


@pytest.fixture
def ct():
  return pydicom.data.get_testdata_file("CT_small.dcm", download=False)


def test_text(cine, capsys):
  assert main(["inspect", cine]) == 0
  text = capsys.readouterr().out
  lines = {
    line[:13].strip(): line[13:] for line in text.splitlines()[1:]
  }  # fmt: skip
  assert text.splitlines()[0] == cine
  assert lines["kind"] == "cine"
  assert lines["frames"].startswith("30 of 320x240 (columns x rows), JPEG")
  assert lines["times"].startswith("33.333 ms a frame (30.00 Hz), uniform")
  assert "966.7 ms" in lines["times"] and "FrameTime" in lines["times"]
  assert lines["spacing"].startswith("unknown; the header's 0.51050 x 0.51050")
  assert "is withheld" in lines["spacing"]
  assert lines["heart rate"] == "unknown"
  repeats = "2 frames equal the one before; 27.93 Hz without them"
  assert lines["repeats"] == repeats  # (30 - 2 - 1) / 966.657 ms
  assert lines["as is"] == "frames are JPEG and can be stored as they are"
  warning = "WARNING    region x 84..595, y 31..414 does not fit the 320x240"
  assert warning in text
  assert "nan" not in text


def test_json(cine, ct, capsys):
  assert main(["inspect", cine, ct, "--json"]) == 1
  first, second = json.loads(capsys.readouterr().out)
  assert (first["file"], second["file"]) == (cine, ct)
  assert (first["frames"], first["rows"], first["columns"]) == (30, 240, 320)
  assert first["times"]["interval_ms"] == pytest.approx(33.333)
  assert first["times"]["uniform"] is True
  assert first["spacing_mm"] == [None, None]
  assert first["spacing_in_header_mm"] == pytest.approx([0.5104971] * 2)
  assert first["heart_rate_bpm"] is None and first["r_wave_ms"] == []
  assert first["regions"][0]["x1"] == 595
  assert any("does not fit" in warning for warning in first["warnings"])
  assert second == {
    "file": ct,
    "error": "not ultrasound: modality CT, SOP class CT Image Storage",
  }


def test_a_bad_file_does_not_hide_the_others(cine, ct, tmp_path, capsys):
  absent = str(tmp_path / "absent.dcm")
  assert main(["inspect", ct, absent, cine]) == 1
  text = capsys.readouterr().out
  assert "error      not ultrasound: modality CT" in text
  assert "error      No such file or directory" in text
  assert "frames     30 of 320x240" in text


def test_no_patient_text(tmp_path, capsys):
  path = write_dicom(tmp_path / "a", CLIP, [region()], FrameTime="99.125")
  data = path.read_bytes()
  assert data.count(b"99.125") == 1
  path.write_bytes(data.replace(b"99.125", b"SECRET"))
  for more in ([], ["--json"]):
    assert main(["inspect", str(path), *more]) == 0
    text = capsys.readouterr().out
    assert "FrameTime is not a number: not used" in text
    assert "SECRET" not in text and "4711" not in text


def test_spacing_uneven_times_and_r_waves(tmp_path, capsys):
  path = write_dicom(
    tmp_path / "a", CLIP, [region(PhysicalDeltaX=0.04)],
    FrameIncrementPointer=0x00181065, FrameTimeVector=[0, 20, 30, 20, 30, 20],
    RWaveTimeVector=[15.0, 90.0], HeartRate="72",
  )  # fmt: skip
  assert main(["inspect", str(path)]) == 0
  text = capsys.readouterr().out
  assert "0.50000 x 0.40000 mm a pixel (row x column)" in text
  assert "24.000 ms a frame" in text
  assert "NOT uniform (20.0 to 30.0 ms)" in text
  assert "R waves    15.0, 90.0 ms" in text and "72 bpm" in text


def test_movie_and_unknown_times(tmp_path, capsys):
  avi = write_avi(tmp_path / "a.avi", CLIP, 50.0)
  still = write_dicom(tmp_path / "b", CLIP[:1])
  timeless = write_dicom(tmp_path / "c", CLIP)
  assert main(["inspect", str(avi), str(still), str(timeless)]) == 0
  text = capsys.readouterr().out
  assert "20.000 ms a frame (50.00 Hz), uniform" in text
  assert "by container" in text
  assert "times      a single frame" in text
  assert "times      unknown" in text
  assert main(["inspect", str(timeless), "--json"]) == 0
  (facts,) = json.loads(capsys.readouterr().out)
  assert facts["times"]["interval_ms"] is None
  assert facts["times"]["span_ms"] is None


def test_picture(cine, ct, tmp_path):
  still = write_dicom(tmp_path / "still", CLIP[:1, :100, :100])
  out = tmp_path / "out.png"
  assert main(["inspect", cine, ct, str(still), "--figure", str(out)]) == 1
  assert out.read_bytes()[:4] == b"\x89PNG"
  picture = cv2.imread(str(out))[..., ::-1]  # BGR to RGB
  assert picture.shape == (240 + 8 + 100 + 8, 3 * 320 + 2 * 8, 3)
  yellow = (picture[:240] == (255, 214, 0)).all(-1)
  columns = np.flatnonzero(yellow.any(0))
  assert columns.min() >= 328 and columns.max() < 648  # the middle one


def test_picture_leaves_the_json_alone(cine, tmp_path, capsys):
  out = tmp_path / "out.png"
  assert main(["inspect", cine, "--json", "--figure", str(out)]) == 0
  assert out.exists()
  assert len(json.loads(capsys.readouterr().out)) == 1


def test_no_picture_of_nothing(ct, tmp_path):
  out = tmp_path / "out.png"
  assert main(["inspect", ct, "--figure", str(out)]) == 1
  assert not out.exists()


SPECTRUM = {
  "RegionSpatialFormat": 3, "RegionDataType": 4, "RegionLocationMinY0": 120,
  "PhysicalUnitsXDirection": 4, "PhysicalUnitsYDirection": 7,
  "PhysicalDeltaX": 0.005, "PhysicalDeltaY": -2.0, "ReferencePixelY0": 40,
  "ReferencePixelPhysicalValueY": 0.0,
}  # fmt: skip


@pytest.fixture
def duplex(tmp_path):
  """A picture above a spectrum of continuous-wave Doppler, one repeat."""
  video = CLIP.copy()
  video[4] = video[3]
  return write_dicom(
    tmp_path / "duplex", video,
    [region(RegionLocationMaxY1=119), region(**SPECTRUM)], FrameTime="50",
    RWaveTimeVector=[20.0, 220.0],
  )  # fmt: skip


def test_spectrum_repeats_and_r_waves(duplex, capsys):
  assert main(["inspect", str(duplex)]) == 0
  text = capsys.readouterr().out
  assert "kind       cw" in text
  assert "Doppler    zero at row 160, 2 cm/s a row, up is +, 5 ms a" in text
  assert "repeats    1 frames equal the one before; 16.00 Hz without" in text
  assert "R waves    20.0, 220.0 ms (R-R 200.0 ms)" in text
  assert "as is      no: the owner's frames are not JPEG" in text
  assert main(["inspect", str(duplex), "--json"]) == 0
  (facts,) = json.loads(capsys.readouterr().out)
  assert facts["doppler"] == {
    "box_px": {"x0": 0, "y0": 120, "x1": 319, "y1": 239}, "zero_px": 160.0,
    "cm_s_per_row": 2.0, "ms_per_column": 5.0,
  }  # fmt: skip
  assert facts["repeats"] == {"frames": [4], "rate_without_hz": 16.0}
  assert facts["rr_ms"] == [200.0]
  assert facts["regions"][1]["reference_y"] == 40


def test_keys_are_the_same_for_every_recording(duplex, cine, tmp_path, capsys):
  """All the way down, whatever is known; NaN is null."""
  black = write_dicom(tmp_path / "black", np.zeros((1, 40, 40), np.uint8))
  avi = write_avi(tmp_path / "a.avi", CLIP)
  files = [str(path) for path in (duplex, cine, black, avi)]
  assert main(["inspect", *files, "--json"]) == 0
  text = capsys.readouterr().out
  assert "NaN" not in text
  facts = json.loads(text)
  for name in (None, "times", "repeats", "as_is", "sector_box"):
    keys = [list(f[name] if name else f) for f in facts]
    assert keys == [keys[0]] * 4, name
  doppler = [set(f["doppler"]) for f in facts]
  assert doppler == [doppler[0]] * 4
  assert facts[2]["sector_box"] == dict.fromkeys(("x0", "y0", "x1", "y1"))


def test_folders_are_walked(duplex, ct, tmp_path, capsys):
  ward = tmp_path / "ward" / "deep"
  ward.mkdir(parents=True)
  duplex.rename(ward / "b")
  (ward.parent / "a.txt").write_text("notes")
  assert main(["inspect", str(tmp_path / "ward"), ct, "--json"]) == 1
  facts = json.loads(capsys.readouterr().out)
  names = [str(ward.parent / "a.txt"), str(ward / "b"), ct]
  assert [one["file"] for one in facts] == names
  assert [("error" in one) for one in facts] == [True, False, True]
  (tmp_path / "empty").mkdir()
  assert main(["inspect", str(tmp_path / "empty")]) == 1
  assert "folder without any file" in capsys.readouterr().err


def test_regions_in_the_figure(duplex, tmp_path):
  out = tmp_path / "out.png"
  assert main(["inspect", str(duplex), "--figure", str(out)]) == 0
  middle = cv2.imread(str(out))[..., ::-1][:240, 328:648]
  blue = (middle == (0, 200, 255)).all(-1)
  pink = (middle == (255, 90, 220)).all(-1)
  assert blue[0, 50:300].all() and not blue[120:].any()
  assert pink[239, 50:300].all() and not pink[:120].any()
  assert pink[160, :].all()  # the zero line


@pytest.mark.parametrize("dicom", [True, False])
def test_an_ecg_and_its_faults(tmp_path, dicom, capsys):
  """I and II have changed names, V1 is flat, V6 is absent."""
  mv = made_ecg(HZ)[:, :11]
  mv[:, [0, 1]] = mv[:, [1, 0]]
  mv[:, 6] = 0.01
  if dicom:
    leads = [channel(lead) for lead in LEADS[:11]]
    path = write_ecg(tmp_path / "ecg", [group(mv, leads)])
  else:
    path = write_wfdb(tmp_path, mv=mv, leads=LEADS[:11])
  assert main(["inspect", str(path)]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[1:5] == [
    "  kind       ecg",
    "  rate       250 Hz",
    "  duration   4 s, 1000 samples",
    "  leads      11: i, ii, iii, avr, avl, avf, v1, v2, v3, v4, v5",
  ]
  assert lines[6:8] == [
    "  missing    v6 (of the twelve)",
    "  usable     4 of 12, by the first 10 s",
  ]
  warned = "\n".join(lines[8:])
  assert "  WARNING    ECG lead v1 is flat: 0 mV from lowest" in warned
  assert "it fits if i and ii are exchanged: limb leads not used" in warned


def test_ecgs_of_a_folder(tmp_path, capsys):
  """Signal files go with their header; what is no ECG stays an error."""
  (tmp_path / "b").mkdir()
  write_wfdb(tmp_path / "b", mv=1000 * made_ecg(HZ))
  write_ecg(tmp_path / "c", [twelve(ChannelSensitivityUnitsSequence=None)])
  assert main(["inspect", str(tmp_path), "--json"]) == 1
  refused, large = json.loads(capsys.readouterr().out)
  assert refused["error"].startswith("ECG without units: channel 1 has no Chan")
  assert (large["kind"], large["rate_hz"], large["span_s"]) == ("ecg", HZ, 4.0)
  assert large["usable_leads"] == [] and large["missing_leads"] == []
  assert "divide by 1000" in large["warnings"][0]
  span_mv = 1000 * np.ptp(made_ecg(HZ)[:, 1])
  assert large["range_mv"][1] == pytest.approx(span_mv, rel=1e-3)
