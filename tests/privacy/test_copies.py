"""One file to its copy: codings, chance names, closed lists, refusals."""

import io
import os

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from echo_jax.commands import inspect, predict
from echo_jax.data.ledger import Rejected
from echo_jax.privacy import deidentify as work
from echo_jax.privacy import folder
from echo_jax.privacy.deidentify import Options, deidentify
from echo_jax.privacy.identities import Identities, masked
from echo_jax.privacy.keys import Key
from echo_jax.privacy.text import Box

pytest.importorskip("dicomanonymizer", reason="needs the extra [deid]")
KEY = Key(b"0123456789abcdef-secret")
HIDDEN = b"Hidden^Name 19520304"


def sees_nothing(frames):
  return ()


def moving(channels=1):
  """Four frames of speckle in a disc, black around it."""
  y, x = np.mgrid[:64, :80]
  rng = np.random.default_rng(0)
  inside = np.hypot(x - 40, y - 32) < 22
  frames = np.where(inside, rng.integers(30, 200, (4, 64, 80)), 0)
  frames = np.repeat(frames[..., None], channels, -1).astype(np.uint8)
  if channels == 3:
    frames[:, 28:36, 36:44] = (220, 40, 0)
  return frames


def write(path, frames, photometric="MONOCHROME2", coded=None, **more):
  """A file with one patient's name, raw or of given JPEG frames."""
  dataset = Dataset()
  known = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.3.1", "Modality": "US",
    "SOPInstanceUID": "1.2.276.9.1", "StudyInstanceUID": "1.2.276.9.2",
    "SeriesInstanceUID": "1.2.276.9.3", "PatientID": "PX4711",
    "PatientName": "Muster^Anna", "StudyDate": "20200110", "FrameTime": 20,
    "NumberOfFrames": len(frames), "Rows": frames.shape[1],
    "Columns": frames.shape[2], "SamplesPerPixel": frames.shape[3],
    "PhotometricInterpretation": photometric, "BitsAllocated": 8,
    "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0,
  }  # fmt: skip
  if frames.shape[3] == 3:
    known["PlanarConfiguration"] = 0
  for name, value in (known | more).items():
    if value is not None:
      setattr(dataset, name, value)
  syntax = JPEGBaseline8Bit if coded else ExplicitVRLittleEndian
  if "PixelData" not in dataset:
    dataset.PixelData = encapsulate(coded) if coded else frames.tobytes()
  dataset["PixelData"].VR = "OB"
  dataset.file_meta = FileMetaDataset()
  dataset.file_meta.TransferSyntaxUID = syntax
  dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
  dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.276.9.1"
  path.parent.mkdir(exist_ok=True)
  dataset.save_as(path, enforce_file_format=True)
  return path


def jpeg(frames, subsampling=1):
  """JPEG frames with an identity in a comment and in application data."""
  coded = []
  for frame in frames:
    buffer = io.BytesIO()
    picture = Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame)
    picture.save(buffer, "JPEG", quality=90, subsampling=subsampling)
    size = (len(HIDDEN) + 2).to_bytes(2, "big")
    data = buffer.getvalue()
    extra = b"\xff\xfe" + size + HIDDEN + b"\xff\xe5" + size + HIDDEN
    data = data[:2] + extra + data[2:]
    coded.append(data + b"\0" * (len(data) % 2))
  return coded


def has_no_end(data):
  raise Rejected("damaged JPEG")


def clean(path, read=sees_nothing):
  return deidentify(path, KEY, read, Options())


@pytest.mark.parametrize(
  ("channels", "photometric"), [(1, "MONOCHROME2"), (3, "YBR_FULL_422")]
)
def test_a_clean_jpeg_stays_as_it_is_but_for_what_is_hidden_in_it(
  tmp_path, channels, photometric
):
  frames = moving(channels)
  path = write(tmp_path / "x.dcm", frames, photometric, jpeg(frames))
  assert HIDDEN in path.read_bytes()
  found = clean(path)
  assert found.audit.outcome == "written", found.audit.reason
  assert found.audit.pixels["stored"] == "JPEG as it was"
  assert HIDDEN not in found.data and b"Hidden" not in found.data
  copy = pydicom.dcmread(io.BytesIO(found.data))
  assert copy.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
  assert copy.PhotometricInterpretation == photometric
  shown = pydicom.pixels.pixel_array(copy, decoding_plugin="pillow")
  source = pydicom.pixels.pixel_array(path, decoding_plugin="pillow")
  assert np.array_equal(shown, source)


def test_frames_of_a_jpeg_are_found_by_the_extended_table(tmp_path):
  frames = moving()
  coded = jpeg(frames)
  data, offsets, lengths = encapsulate_extended(coded)
  path = write(
    tmp_path / "x.dcm", frames, coded=coded, PixelData=data,
    ExtendedOffsetTable=offsets, ExtendedOffsetTableLengths=lengths,
  )  # fmt: skip
  found = clean(path)
  assert found.audit.pixels["stored"] == "JPEG as it was", found.audit.reason


def test_a_jpeg_is_coded_anew_where_it_cannot_stay(tmp_path, monkeypatch):
  """Two grey levels outside, text inside, no end, or a copy that differs."""
  frames = moving()
  coded = jpeg(frames)
  path = write(tmp_path / "x.dcm", frames, coded=coded)
  corners = ((30.0, 30.0), (50.0, 30.0), (50.0, 34.0), (30.0, 34.0))
  once = iter([(Box(corners),)])
  with_text = clean(path, lambda frames: next(once, ()))
  monkeypatch.setattr(work, "strip_jpeg", lambda data: coded[0])
  differs = clean(path)
  monkeypatch.setattr(work, "strip_jpeg", has_no_end)
  cut = clean(path)
  monkeypatch.undo()
  frames[:, 60:, :20] = 2
  faint = write(tmp_path / "y.dcm", frames, coded=jpeg(frames))
  for found in (with_text, differs, cut, clean(faint)):
    assert found.audit.outcome == "written", found.audit.reason
    assert found.audit.pixels["stored"] == "rle"
    assert b"Hidden" not in found.data


@pytest.mark.parametrize(
  "more",
  [
    {"PatientName": "Black^Anna"}, {"StationName": "ECHO"},
    {"StudyDescription": "Ultrasound"}, {"InstitutionName": "Derived House"},
    {"PatientName": "Original^Yes"}, {"PatientName": "Apical^Ann"},
    {"PatientID": "113100"}, {"PatientName": "Philips^Ann"},
  ],
)  # fmt: skip
def test_words_of_ours_are_no_leaks(tmp_path, more):
  """What each copy says of itself may be somebody's name."""
  view = Dataset()
  view.CodeValue, view.CodingSchemeDesignator = "399214001", "SCT"
  view.CodeMeaning = "x"
  path = write(
    tmp_path / "x.dcm", moving(), ViewCodeSequence=[view],
    Manufacturer="Philips", ImageType=["ORIGINAL", "PRIMARY"], **more,
  )  # fmt: skip
  found = clean(path)
  assert found.audit.outcome == "written", found.audit.reason


def test_a_longer_word_is_not_hidden_by_one_of_ours(tmp_path, monkeypatch):
  """Were it left in, "Originalski" would be found though "ORIGINAL" is ours."""
  path = write(tmp_path / "x.dcm", moving(), PatientName="Originalski^Anna")
  change = work.rules.DERIVATION + " of Originalski"
  monkeypatch.setattr(work.rules, "DERIVATION", change)
  found = clean(path)
  assert found.audit.outcome == "refused"
  assert "no identity in the header's bytes" in found.audit.reason


def test_code_strings_and_models_come_from_closed_lists(tmp_path):
  path = write(
    tmp_path / "x.dcm", moving(),
    ImageType=["ORIGINAL", "PRIMARY", "SCHNEIDER", "0001"],
    PatientOrientation="SCHNEIDER", TransducerType="SCHNEIDER",
    ManufacturerModelName="Vivid Schneider 77", Laterality="L",
  )  # fmt: skip
  data = clean(path).data
  assert b"schneider" not in data.lower()
  copy = pydicom.dcmread(io.BytesIO(data))
  assert list(copy.ImageType) == ["DERIVED", "PRIMARY", "", "0001"]
  assert copy.Laterality == "L" and "TransducerType" not in copy


@pytest.mark.parametrize(
  ("model", "wanted"),
  [
    ("Vivid E95", "Vivid E95"), ("iE33", "iE33"), ("EPIQ 7C", "EPIQ 7C"),
    ("ACUSON SC2000", "ACUSON SC2000"), ("CX50", "CX50"),
    ("Vivid Meier", None), ("Vivid E9 SN 0815", None), ("Li", None),
    ("19520304", None),
  ],
)  # fmt: skip
def test_models_are_known_words_and_short_numbers(tmp_path, model, wanted):
  path = write(tmp_path / "x.dcm", moving(), ManufacturerModelName=model)
  copy = pydicom.dcmread(io.BytesIO(clean(path).data))
  assert copy.get("ManufacturerModelName") == wanted


def test_files_without_numbers_are_patients_of_their_own(tmp_path):
  """Neither name nor offset joins two strangers whose numbers are missing."""
  none = {"PatientID": None, "StudyInstanceUID": None}
  one = write(tmp_path / "1.dcm", moving(), PatientName="A^B", **none)
  two = write(tmp_path / "2.dcm", moving(), PatientName="C^D", **none)
  found = clean(one), clean(two)
  copies = [pydicom.dcmread(io.BytesIO(each.data)) for each in found]
  assert copies[0].PatientID != copies[1].PatientID
  assert copies[0].StudyDate != copies[1].StudyDate
  studies = [each.audit.copy.split("/")[1] for each in found]
  assert studies[0] != studies[1]


def test_records_hold_no_values_of_a_header(tmp_path):
  """Reasons and notes of reading quote numbers and words: not in a record."""
  region = Dataset()
  for keyword, value in {
    "RegionSpatialFormat": 1, "RegionDataType": 1,
    "RegionLocationMinX0": 19520304, "RegionLocationMinY0": 0,
    "RegionLocationMaxX1": 100, "RegionLocationMaxY1": 100,
    "PhysicalUnitsXDirection": 3, "PhysicalUnitsYDirection": 3,
    "PhysicalDeltaX": 0.1, "PhysicalDeltaY": 0.1,
  }.items():  # fmt: skip
    setattr(region, keyword, value)
  odd = write(
    tmp_path / "1.dcm", moving(), PatientBirthDate="19520304",
    HeartRate=4711, FrameTime=0, SequenceOfUltrasoundRegions=[region],
  )  # fmt: skip
  found = clean(odd)
  assert found.audit.outcome == "written" and len(found.audit.notes) >= 3
  other = write(
    tmp_path / "2.dcm", moving(), Modality="SCHNEIDER",
    SOPClassUID="1.2.840.10008.5.1.4.1.1.7",
  )  # fmt: skip
  refused = clean(other)
  assert refused.audit.reason.startswith("not ultrasound")
  text = found.audit.to_json() + refused.audit.to_json()
  for value in ("19520304", "95203", "4711", "SCHNEIDER"):
    assert value not in text, value


def test_a_note_that_repeats_an_identity_is_cut():
  known = Identities(frozenset({"muster", "12"}), frozenset())
  assert masked("bad: frame 3 of Muster", known) == "bad"
  assert masked("12 frames", known).startswith("withheld")
  assert masked("size 640x480, 19520304", known) == "size 640x480, #"


def test_whatever_goes_wrong_in_one_file_is_a_refusal(tmp_path):
  """Kinds of error that no list of ours names; the message is not told."""

  def breaks(frames):
    raise cv2.error("Muster")

  path = write(tmp_path / "x.dcm", moving())
  found = clean(path, breaks)
  assert found.audit.reason == "not cleaned: error on the way"
  assert found.data is None


def archive(tmp_path, *names):
  for name in names:
    write(tmp_path / "in" / name, moving(), SOPInstanceUID=f"1.2.3.{len(name)}")
  return tmp_path / "in"


def go(tmp_path, read=sees_nothing):
  """The whole folder, read by a given reader; and the ledger."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(folder, "make_reader", lambda: read)
    counts = folder.run_folder(
      tmp_path / "in", tmp_path / "out", KEY, tmp_path / "map.csv", Options(),
      progress=False,
    )  # fmt: skip
  return counts, (tmp_path / "out" / "ledger.csv").read_text()


def test_a_file_that_cannot_be_opened_is_refused_and_counted(
  tmp_path, monkeypatch
):
  source = archive(tmp_path, "bad.dcm", "good.dcm")
  (source / "broken link").symlink_to(source / "gone")
  os.mkfifo(source / "pipe")
  real = Key.file_id

  def fails(self, path):
    if path.name == "bad.dcm":
      raise OSError(5, "Input/output error", str(path))
    return real(self, path)

  monkeypatch.setattr(Key, "file_id", fails)
  counts, ledger = go(tmp_path)
  assert (counts["written"], counts["refused"]) == (1, 3)
  assert ledger.count("cannot be opened (") == 3
  assert "bad" not in ledger and "broken" not in ledger
  assert len(list((tmp_path / "out" / "audit").rglob("*.json"))) == 4


def test_a_folder_behind_a_link_is_not_passed_over(tmp_path):
  source = archive(tmp_path, "good.dcm")
  elsewhere = tmp_path / "elsewhere"
  elsewhere.mkdir()
  write(elsewhere / "far.dcm", moving(), SOPInstanceUID="1.2.3.99")
  (source / "behind").symlink_to(elsewhere)
  for files in (
    folder.files_in(source), predict._files([source]),
    inspect._files([source]),
  ):  # fmt: skip
    assert [path.name for path in files] == ["good.dcm", "far.dcm"]


def copies_in(tmp_path):
  return sorted((tmp_path / "out").glob("*/*/*.dcm"))


def test_no_copy_outlives_its_record(tmp_path):
  """A record is lost and the file is refused now: the copy goes too."""
  source = archive(tmp_path, "a.dcm", "bb.dcm")
  assert go(tmp_path)[0]["written"] == 2
  foreign = tmp_path / "out" / "a" / "b" / "mine.dcm"
  foreign.parent.mkdir(parents=True)
  foreign.write_bytes(b"not ours")
  for record in (tmp_path / "out" / "audit").rglob("*.json"):
    record.write_text('{"cut')
  (source / "bb.dcm").unlink()  # its copy is no longer made again either
  corners = ((0.0, 0.0), (90.0, 0.0), (90.0, 90.0), (0.0, 90.0))
  counts, ledger = go(tmp_path, lambda frames: (Box(corners),))
  assert counts["refused"] == 1 and ledger.count("removed: a copy") == 2
  assert copies_in(tmp_path) == [foreign]


def test_a_refusal_takes_the_copy_of_an_earlier_run_away(tmp_path, monkeypatch):
  """Other rules, another verdict: what they let pass before is not kept."""
  archive(tmp_path, "a.dcm")
  go(tmp_path)
  assert go(tmp_path)[0]["kept"] == 1
  monkeypatch.setattr(work, "_revision", lambda: "other rules")
  corners = ((0.0, 0.0), (90.0, 0.0), (90.0, 90.0), (0.0, 90.0))
  assert go(tmp_path, lambda frames: (Box(corners),))[0]["refused"] == 1
  assert not copies_in(tmp_path)


def test_the_record_is_there_before_the_copy(tmp_path, monkeypatch):
  archive(tmp_path, "a.dcm")
  written = []
  real = folder._write

  def note(path, data):
    written.append(path.suffix)
    real(path, data)

  monkeypatch.setattr(folder, "_write", note)
  go(tmp_path)
  assert written == [".json", ".dcm"]
