"""A study folder: what is found, what is named absent, what is refused."""

import os

import numpy as np
import pytest
from made_ecg import HZ, twelve, write_ecg, write_wfdb
from made_files import drawn_clip, region, write_avi, write_dicom
from made_signals import made_ecg
from test_ingest_doppler import CM_S, drawn_spectrum, spectral

from echo_jax.data.clinical import CLINICAL, GENETIC, encode, measure
from echo_jax.data.ingest.recording import luminance
from echo_jax.data.ledger import Rejected
from echo_jax.data.signals import LEADS, prepare_ecg
from echo_jax.data.spectra import GRIDS, resample_spectrum
from echo_jax.data.study_folder import read_study_folder
from echo_jax.modalities import MODALITIES

CLIP = drawn_clip(3)
PERSON = {
  "PatientID": "4711", "PatientSex": "F", "PatientAge": "060Y",
  "StudyInstanceUID": "1.2.3", "AcquisitionDateTime": "21500102083000",
}  # fmt: skip
ROW = "patient_id,age_years,sex,height_cm,carrier_ttn\n4711,60,F,178,0\n"


def cine(path, **header):
  whose = PERSON | {"FrameTime": "33.3"} | header
  return write_dicom(path, CLIP, [region()], **whose)


def spectrum(path, **changes):
  picture = drawn_spectrum()[None]
  return write_dicom(path, picture, [spectral(**changes)], **PERSON)


def lines(study, *names):
  """What is said of files or modalities, as text."""
  return [
    str(s) for s in study.said if {s.file, s.modality} & set(names)
  ]


@pytest.fixture
def folder(tmp_path):
  """SECRET, the name of the person, must not come out of it."""
  folder = tmp_path / "SECRET^NAME"
  (folder / "b").mkdir(parents=True)
  return folder


@pytest.fixture
def whole(folder):
  cine(folder / "a.dcm")
  spectrum(folder / "b" / "pw")
  write_ecg(folder / "b" / "x", [twelve()])
  (folder / "records.csv").write_text(ROW)
  return folder


def test_a_whole_study_is_ready_for_the_encoders(whole):
  study = read_study_folder(whole)
  assert study.present == dict.fromkeys(MODALITIES, True)
  assert study.counts == {"found": 4}
  (clip,), (flow,) = study.cines, study.spectra
  np.testing.assert_array_equal(clip.data.frames[..., 0], CLIP)
  assert (clip.file.name, clip.file.path) == ("file 1", whole / "a.dcm")
  assert study.identity.patient == "|4711"
  picture = luminance(flow.data.frames)[0]
  grid = resample_spectrum(picture, flow.data.doppler, GRIDS["pw"])
  fast = grid.velocity_cm_s[grid.spectrum.max(1) > 0.3]
  assert fast.max() == pytest.approx(8.0, abs=2.5)  # drawn; rows of 2.5 cm/s
  assert flow.data.doppler.cm_s == pytest.approx(CM_S)
  ecg = study.ecg.data
  ready = prepare_ecg(ecg.mv, ecg.hz, ecg.leads, to_hz=HZ, span_s=4)
  assert ready.lead_valid.all() and ready.flaws == ()
  assert study.clinical == {"age_years": 60, "sex": "F", "height_cm": 178}
  assert study.genetic == {"carrier_ttn": 0}
  for row, table in ((study.clinical, CLINICAL), (study.genetic, GENETIC)):
    encode([row], table, measure([row], table))


def test_nothing_it_says_names_the_person(whole):
  (whole / "SECRET.txt").write_text("SECRET")
  cine(whole / "bad.dcm").write_bytes(b"\0" * 128 + b"DICMSECRET")
  study = read_study_folder(whole)
  for text in (*map(str, study.said), repr(study.said)):
    assert "SECRET" not in text and "4711" not in text
  for found in (*study.cines, *study.spectra, study.ecg):
    assert "SECRET" not in repr(found.file)
  assert study.counts == {"found": 4, "refused": 1, "ignored": 1}


@pytest.mark.parametrize(
  ("left", "absent"),
  [
    ("a.dcm", {"doppler", "ecg", "clinical", "genetic"}),
    ("b/pw", {"video", "ecg", "clinical", "genetic"}),
    ("b/x", {"video", "doppler", "clinical", "genetic"}),
    ("records.csv", {"video", "doppler", "ecg"}),
  ],
)
def test_what_is_absent_is_named(whole, left, absent):
  for name in ("a.dcm", "b/pw", "b/x", "records.csv"):
    if name != left:
      (whole / name).unlink()
  study = read_study_folder(whole)
  assert {name for name, there in study.present.items() if not there} == absent
  said = [str(s) for s in study.said if s.status == "absent"]
  assert set(said) == {
    f"{name}: absent: no file of it in the folder" for name in absent
  }


OTHERS = {
  "2 patients in one study: file 1 | file 2;": lambda folder: cine(
    folder / "b" / "2", PatientID="4712"
  ),
  "2 patients in one study: file 1 | file 3": lambda folder: (
    cine(folder / "b" / "2", PatientID=""),
    write_ecg(folder / "b" / "3", [twelve()], PatientID="4712"),
  ),
  # Refused for its units, of another person all the same.
  "2 patients in one study: file 1 | file 2; leave": lambda folder: write_ecg(
    folder / "b" / "3", [twelve(ChannelSensitivityUnitsSequence=None)],
    PatientID="4712",
  ),
  "2 patients in one study: file 1 | file 2; leave the": lambda folder: (
    folder / "b" / "r.csv"
  ).write_text(ROW.replace("4711", "4712")),
  "2 patients in one study: file 1 | file 3; lea": lambda folder: write_wfdb(
    folder / "b", **{"<subject_id>": "4712"}
  ),
  "in one study, by their sex: file 4 | file 1, file 2": lambda folder: (
    cine(folder / "c", PatientSex="M"), write_wfdb(folder / "b", sex="female"),
    (folder / "a").unlink(), cine(folder / "d", PatientSex="M"),
  ),
  "file 1 and file 3 are 19 years of age apart": lambda folder: write_wfdb(
    folder / "b", Age="79"
  ),
  "file 1, file 2 | file 3": lambda folder: (
    cine(folder / "b" / "2", IssuerOfPatientID="HOSPITAL"),
    cine(folder / "b" / "3", IssuerOfPatientID="CLINIC"),
  ),
}  # fmt: skip


@pytest.mark.parametrize(("reason", "other"), OTHERS.items())
def test_two_patients_are_refused_as_a_whole(folder, reason, other):
  cine(folder / "a")
  other(folder)
  with pytest.raises(Rejected, match=reason.replace("|", r"\|")) as refused:
    read_study_folder(folder)
  assert "471" not in str(refused.value)


def test_two_occasions_are_refused_as_a_whole(folder):
  cine(folder / "1")
  cine(folder / "2", StudyInstanceUID="1.2.4")
  assert len(read_study_folder(folder).cines) == 2  # of the same day
  cine(folder / "2", StudyInstanceUID="1.2.4", AcquisitionDateTime="21500103")
  with pytest.raises(Rejected, match=r"2 studies, .*: file 1 \| file 2; pass"):
    read_study_folder(folder)
  cine(folder / "2", StudyInstanceUID="1.2.4", AcquisitionDateTime=None)
  with pytest.raises(Rejected, match="not all of one day"):
    read_study_folder(folder)


@pytest.mark.parametrize(
  ("changes", "lacking"),
  [
    ({"PhysicalUnitsYDirection": 0}, "velocity of a row (cm/s), row of zero"),
    ({"PhysicalUnitsXDirection": 0}, "without time of a column (ms): not"),
    ({"ReferencePixelY0": None}, "without row of zero velocity: not used"),
    ({"RegionLocationMaxX1": 900}, "without scales: its header has no spe"),
  ],
)
def test_a_spectrum_without_scales_is_ignored_by_name(folder, changes, lacking):
  spectrum(folder / "pw", **changes)
  study = read_study_folder(folder)
  assert study.spectra == () and study.counts == {"ignored": 1}
  said, absent = lines(study, "doppler")
  assert said.startswith("doppler file 1: ignored: Doppler ")
  assert lacking in said
  assert absent == "doppler: absent: nothing usable in file 1"


def test_colour_doppler_is_ignored_by_name(folder):
  write_dicom(folder / "1", CLIP, [region(RegionDataType=2)], **PERSON)
  (said, _) = lines(read_study_folder(folder), "video")
  assert said == (
    "video file 1: ignored: kind colour: neither B-mode cine nor spectrum"
  )


def test_an_ecg_without_units_is_refused_by_name(folder):
  write_ecg(folder / "1", [twelve(ChannelSensitivityUnitsSequence=None)])
  write_wfdb(folder, "2")
  header = folder / "2.hea"
  header.write_text(header.read_text().replace("/mV", "/NU"))
  study = read_study_folder(folder)
  assert study.ecg is None and study.counts == {"refused": 2, "ignored": 1}
  first, second, absent = lines(study, "ecg")
  assert "ecg file 1: refused: ECG without units: channel 1 has no" in first
  assert "ecg file 3: refused: ECG unit not known: 'NU' of lead" in second
  assert absent == "ecg: absent: nothing usable in file 1, file 3"


def test_flat_and_swapped_leads_are_named(folder):
  mv = made_ecg(HZ)
  mv[:, [0, 1]] = mv[:, [1, 0]]  # I and II have changed names
  mv[:, 6] = 0.01
  write_wfdb(folder, mv=mv)
  study = read_study_folder(folder)
  said = "\n".join(lines(study, "ecg"))
  assert "ECG lead v1 is flat: 0 mV from lowest to highest" in said
  assert "it fits if i and ii are exchanged: limb leads not used" in said
  assert "found: ECG, 5 usable leads (v2, v3, v4, v5, v6), 4 s at 250" in said
  assert "names no patient: taken for that of the folder" in said


@pytest.mark.parametrize(
  ("mv", "reason"),
  [
    (np.zeros((500, 12)), "refused: ECG without a usable lead: ECG lead i is"),
    (1000 * made_ecg(HZ), "divide by 1000"),
  ],
)
def test_an_ecg_of_no_use_is_refused(folder, mv, reason):
  write_wfdb(folder, mv=mv)
  study = read_study_folder(folder)
  assert study.ecg is None and reason in lines(study, "ecg")[0]


def test_leads_beyond_the_twelve_are_left_out(folder):
  mv = np.concatenate([made_ecg(HZ), made_ecg(HZ)[:, :1]], axis=1)
  write_wfdb(folder, mv=mv, leads=("vx", *LEADS))
  study = read_study_folder(folder)
  assert study.ecg.data.leads == LEADS
  assert "leads in positions 1 are not among" in "".join(lines(study, "ecg"))
  write_wfdb(folder, mv=mv[:, :1], leads=("SECRET",))
  (said, _) = lines(read_study_folder(folder), "ecg")
  assert "refused: ECG has none of the leads" in said and "SECRET" not in said


def test_the_ecg_nearest_in_time_is_taken(folder):
  cine(folder / "0")
  for name, time in (("1", "21500102120000"), ("2", "21500102060000")):
    write_ecg(folder / name, [twelve()], AcquisitionDateTime=time)
  write_ecg(folder / "3", [twelve()], AcquisitionDateTime="21500109083000")
  write_ecg(folder / "4", [twelve()], AcquisitionDateTime=None)
  study = read_study_folder(folder)
  assert study.ecg.file.path.name == "2"
  assert lines(study, "file 3")[-1] == (
    "ecg file 3: noted: ECG 2.5 h before the first ultrasound, 12 usable "
    "leads, 4 s"
  )
  for file in ("file 2", "file 5"):
    (said,) = lines(study, file)
    assert "ignored: another ECG was taken, file 3 (2.5 h before the" in said
  assert lines(study, "file 4") == [
    "ecg file 4: refused: ECG of another occasion: 168 h after the first "
    "ultrasound, 12 usable leads, 4 s; allowed are 24 h"
  ]
  assert read_study_folder(folder, ecg_window_h=1).ecg.file.path.name == "4"


def test_without_times_the_ecg_of_most_leads_is_taken(folder):
  write_wfdb(folder, "1", mv=made_ecg(HZ)[:, :2], leads=LEADS[:2])
  write_wfdb(folder, "2")
  study = read_study_folder(folder)
  assert study.ecg.file.path.name == "2.hea"
  (said,) = lines(study, "file 2")
  assert said.endswith("this one is at an unknown time, 2 usable leads, 4 s")


def records(folder, text, **more):
  cine(folder / "a")
  data = text if isinstance(text, bytes) else text.encode()
  (folder / "r.csv").write_bytes(data)
  return read_study_folder(folder, **more)


HEAD = "patient_id,age_years,height_cm\n"
BAD_RECORDS = {
  "height_cm is 1.78 cm; plausible is 30 to 250 cm.  in m it would be 178 cm: "
  "multiply by 100": HEAD + "4711,60,1.78\n",
  "row 2 has words where numbers belong; a line of units": HEAD
  + ",years,cm\n4711,60,178\n",
  "height_cm is no number (decimal point": HEAD + "4711,60,178 cm\n",
  "none of 2 rows is of this patient": HEAD + "4712,60,178\n4713,61,179\n",
  "2 different rows of this patient": HEAD + "4711,60,178\n4711,61,178\n",
  "2 rows and no column patient_id": "age_years\n60\n61\n",
  "sex is none of F, M": "sex\nSECRET\n",
  "records of another person: sex is M, the other files say F": "sex\nM\n",
  "age is 20 years from that in the other": "age_years\n40\n",
  "row 2 has 2 cells for 3": HEAD + "4711,60\n",
  "without a row below": HEAD,
  "age_years twice": "age_years,Age_Years\n60,60\n",
  "not UTF-8 text (byte 10)": b"age_years\n\xff\n",
  "mend their quotes": HEAD + '4711,"60"1,178\n',
  "a cell over several lines": HEAD + '4711,"60\n61",178\n',
}


@pytest.mark.parametrize(("reason", "text"), BAD_RECORDS.items())
def test_bad_records_are_refused_with_the_remedy(folder, reason, text):
  study = records(folder, text)
  assert study.clinical is None and study.genetic is None
  said = lines(study, "file 2")
  assert any("refused: records" in s and reason in s for s in said), said
  assert "SECRET" not in "".join(said)


def test_rows_of_several_patients_need_one_who_is_named(folder):
  (folder / "r.csv").write_text(HEAD + "4712,60,178\n4713,61,179\n")
  (said, _) = lines(read_study_folder(folder), "clinical")
  assert "refused: records: 2 rows of several patients, and no file na" in said


def test_the_row_of_this_patient_is_taken(folder):
  text = "Height_cm,Patient ID,x\n150,4712,a\n178,4711,b\n178,4711,c\n"
  study = records(folder, text)
  assert study.clinical == {"height_cm": 178}
  assert study.genetic is None
  first, second = lines(study, "file 2")
  assert "1 columns not used: 'x'; only names like height_cm" in first
  assert second == "clinical file 2: found: 1 of 14 values: height_cm"


def test_a_unit_in_a_name_is_not_guessed(folder):
  study = records(folder, "patient_id,age_years,height (m)\n4711,60,1.78\n")
  assert study.clinical == {"age_years": 60}
  assert "1 columns not used: 'height (m)'" in lines(study, "file 2")[0]


@pytest.mark.parametrize(
  "text", ["a,b\n1,2\n", "patient_id\n4711\n", "age_years;sex\n60;F\n", ""]
)
def test_other_tables_are_ignored(folder, text):
  study = records(folder, text)
  (said,) = lines(study, "file 2")
  assert "ignored: no records: its first line names no column" in said


def test_missing_cells_are_left_out(folder):
  study = records(folder, HEAD.replace(",h", ",diuretic,h") + "4711,NA,yes,\n")
  assert study.clinical == {"diuretic": "yes"}
  (folder / "r.csv").write_text(HEAD + "4711,,\n")
  study = read_study_folder(folder)
  assert study.clinical is None
  assert lines(study, "clinical") == [
    "clinical file 2: ignored: all cells are empty",
    "clinical: absent: nothing usable in file 2",
  ]


def test_two_files_of_the_same_columns_are_refused(folder):
  (folder / "genes.csv").write_text("carrier_ttn,sex\nno,F\n")
  study = records(folder, "age_years,weight_kg\n60,70\n")
  assert study.genetic == {"carrier_ttn": "no"} and study.clinical is None
  refused = [s for s in study.said if s.status == "refused"]
  assert [s.text for s in refused] == [
    "clinical columns in file 2, file 3: keep one of them"
  ] * 2
  assert study.counts == {"found": 2, "refused": 1}


def test_junk_links_and_copies_are_named(folder):
  cine(folder / "1")
  (folder / "2.txt").write_text("a note")
  (folder / "3").write_bytes(b"")
  (folder / "4").symlink_to(folder / "1")
  (folder / "5").symlink_to(folder / "nowhere")
  (folder / "6").symlink_to(folder)
  os.mkfifo(folder / "7")
  (folder / "8").write_bytes((folder / "1").read_bytes()[:2000])
  ct = "1.2.840.10008.5.1.4.1.1.2"
  cine(folder / "9", SOPClassUID=ct, Modality="CT")
  write_avi(folder / "b" / "x.avi", CLIP)
  study = read_study_folder(folder)
  said = [s.split(": ", 1)[1] for s in map(str, study.said)]
  for wanted in (
    "found: cine, 3 frames", "ignored: not a recording: the first bytes are",
    "ignored: empty file: 0 bytes", "ignored: duplicate: the same bytes as fil",
    "ignored: no file: a link to nowhere or back", "ignored: not ultrasound: m",
    "noted: a movie has no header that says what it shows",
  ):  # fmt: skip
    assert any(s.startswith(wanted) for s in said), wanted
  assert study.counts == {"found": 2, "ignored": 7, "refused": 1}
  assert sum(study.counts.values()) == 10


def test_pseudonyms_and_what_is_kept_are_the_callers(whole):
  (whole / "copy").write_bytes((whole / "b" / "x").read_bytes())
  study = read_study_folder(
    whole, name_of=lambda path: f"p{path.stat().st_size}",
    keep=lambda recording: recording.kind,
  )  # fmt: skip
  assert [c.data for c in study.cines] == ["cine"]
  assert [s.data for s in study.spectra] == ["pw"]
  names = {s.file for s in study.said} - {""}
  assert names == {f"p{p.stat().st_size}" for p in whole.rglob("*.*")} | {
    f"p{(whole / 'b' / name).stat().st_size}" for name in ("pw", "x")
  }
  assert study.counts == {"found": 4, "ignored": 1}


def test_what_cannot_be_kept_is_refused(whole):
  def keep(recording):
    raise Rejected("bad label: of a test")

  study = read_study_folder(whole, keep=keep)
  assert study.cines == study.spectra == ()
  assert "video file 1: refused: bad label: of a test" in lines(study, "video")


def test_no_folder_and_no_file(tmp_path):
  with pytest.raises(FileNotFoundError, match="is not a folder"):
    read_study_folder(tmp_path / "none")
  with pytest.raises(FileNotFoundError, match="holds no file"):
    read_study_folder(tmp_path)
