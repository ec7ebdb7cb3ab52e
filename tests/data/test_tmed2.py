"""TMED-2: stills, labels and official folds in the owner's form, with faults.
"""

import io

import cv2
import made_builds
import numpy as np
import pandas as pd
import pytest
from made_files import echonet_clip
from PIL import Image

from data_builders.tmed2 import dataset
from data_builders.tmed2.listing import AS_TMED3
from data_builders.tmed2.tables import parse_fold
from echo_jax.cli import main
from echo_jax.data import schema
from echo_jax.data.build import build
from echo_jax.data.frames import decode_frame
from echo_jax.data.sources import VideoSource, read_index

BOTH, VIEW = "view_and_diagnosis_labeled_set", "view_labeled_set"
LABELS = "labels_per_image.csv"
LABEL_HEADER = "query_key,view_label,diagnosis_label"
FOLD_HEADER = (
  "query_key,view_label,diagnosis_label,SourceFolder,view_classifier_split,"
  "diagnosis_classifier_split"
)
NONE = "Not_Provided"
PICTURES = echonet_clip(40)


def labelled(key, split="train", view="PLAX", grade="severe_AS", folder=BOTH,
             view_split=None):  # fmt: skip
  return {
    "key": f"{key}.png", "view": view, "grade": grade,
    "folder": f"{folder}/labeled", "view_split": view_split or split,
    "split": split,
  }  # fmt: skip


def unlabelled(key, grade=NONE, folder=f"{BOTH}/unlabeled"):
  return labelled(key, "unlabeled", NONE, grade) | {"folder": folder}


GRADES = ("no_AS", "mild_AS", "mildtomod_AS", "moderate_AS", "severe_AS")
IMAGES = [
  labelled("1s1_0"), labelled("1s1_1", view="A2C"),
  labelled("1s1_2", view="A4CorA2CorOther"),
  labelled("2s1_0", "val", "PSAX", "no_AS"),
  labelled("3s1_0", "test", "A4C", "mild_AS"), labelled("3s2_0", "TEST"),
  *(labelled(f"2{i}s1_0", grade=grade) for i, grade in enumerate(GRADES)),
  labelled("4s1_0", "not_used", "PLAX", NONE, VIEW, "test"),
  labelled("5s1_0", "train"), labelled("5s2_0", "test"),  # one patient
  labelled("6s1_0", view="Subcostal"), labelled("6s1_1", grade="critical"),
  labelled("6s1_2", grade="no_AS"),  # the label table says otherwise
  labelled("6s1_3"), labelled("6s1_5"),  # two labels in the label table
  labelled("6s1_4"),  # not in the label table
  labelled("7s1_0"),  # no such file
  labelled("7s1_1"), labelled("7s1_2"), labelled("7s1_3"),  # damaged
  labelled("7s1_4"), labelled("7s1_5"),  # coloured, and of 16 bits
  labelled("7s1_6"),  # of another size
  labelled("8s1_0"), labelled("8s1_0"),
  labelled("8s1_1", "train"), labelled("8s1_1", "test"),
  labelled("strange"),
]  # fmt: skip
FURTHER = [
  unlabelled("1s1_0", "severe_AS"),  # the key of a labelled picture
  unlabelled("3s1_7", "mild_AS"),  # of a test patient
  unlabelled("9s1_0", folder=f"{VIEW}/unlabeled"),
]  # fmt: skip
IN_FOLDER = "unlabeled_set/unlabeled_set/99s1_0.png"  # no row, and none needed
ORPHAN = f"{BOTH}/labeled/90s1_0.png"  # labelled, but in no fold
REJECTED = {
  f"{BOTH}/labeled/5s1_0.png": "patient in two splits: held out for test",
  f"{BOTH}/labeled/6s1_0.png": "view_label is 'Subcostal', wants one of",
  f"{BOTH}/labeled/6s1_1.png": "diagnosis_label is 'critical', wants",
  f"{BOTH}/labeled/6s1_2.png": "labels disagree: diagnosis_label is 'no_AS'",
  f"{BOTH}/labeled/6s1_3.png": "labels disagree: view_label is 'PLAX' in the",
  f"{BOTH}/labeled/6s1_5.png": "labels disagree: view_label is 'PLAX' in the",
  f"{BOTH}/labeled/7s1_0.png": "image absent:",
  f"{BOTH}/labeled/7s1_1.png": "empty file: 0 bytes",
  f"{BOTH}/labeled/7s1_2.png": "damaged picture: no whole PNG",
  f"{BOTH}/labeled/7s1_3.png": "damaged picture: no whole PNG",
  f"{BOTH}/labeled/7s1_5.png": "picture: mode I;16, wants 8-bit grey or RGB",
  f"{BOTH}/labeled/8s1_1.png": "duplicate id: 2 rows of fold DEV479:0 disagree",
  f"{BOTH}/labeled/strange.png": "name 'strange.png' is not <patient>s<study>",
  ORPHAN: "not listed: the image is not in fold DEV479:0",
  "91s1_0.png": "not listed: only labels_per_image.csv has it",
  f"{BOTH}/unlabeled/3s1_7.png": "patient in two splits: held out for test, "
  "so not in pretrain",
  f"{BOTH}/labeled/labeled/1s1_1.png": f"duplicate file: {BOTH}/labeled/1s1_1",
}
NOTED = {
  f"{BOTH}/labeled/1s1_2.png": "view_label is A4CorA2CorOther: not one view",
  f"{VIEW}/labeled/4s1_0.png": "diagnosis_classifier_split is 'not_used': it",
  f"{BOTH}/labeled/6s1_4.png": "not in labels_per_image.csv: the fold's labels",
  f"{BOTH}/labeled/7s1_4.png": "coloured pixels: stored as luminance",
  f"{BOTH}/labeled/7s1_6.png": "64x64 pixels, the owner's are 112x112",
}


def write_tables(root, images, further=(), labels=None, end="\n", mark=""):
  """The tables of the fold DEV479:0 and of the labels."""
  (root / "DEV479").mkdir(parents=True, exist_ok=True)

  def write(place, header, lines):
    text = mark + end.join([header, *lines]) + end
    (root / place).write_bytes(text.encode("utf-8"))

  if labels is None:
    rows = {i["key"]: f"{i['key']},{i['view']},{i['grade']}" for i in images}
    labels = list(rows.values())
  write(LABELS, LABEL_HEADER, labels)
  for part, rows in (("labeled", images), ("unlabeled", further)):
    lines = [
      ",".join(i[k] for k in
               ("key", "view", "grade", "folder", "view_split", "split"))
      for i in rows
    ]  # fmt: skip
    write(f"DEV479/TMED2_fold0_{part}part.csv", FOLD_HEADER, lines)
  return root


def write_png(root, place, picture):
  path = root / place
  path.parent.mkdir(parents=True, exist_ok=True)
  cv2.imwrite(str(path), picture)
  return path


def read_wrongly(whole):
  """The PNG with one bit turned, which a decoder takes for another picture."""
  right = np.array(Image.open(io.BytesIO(whole)))
  for place in range(len(whole) // 2, len(whole)):
    wrong = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    try:
      picture = np.array(Image.open(io.BytesIO(wrong)))
    except (OSError, SyntaxError):
      continue
    if not np.array_equal(picture, right):
      return wrong
  raise LookupError("no bit that the decoder passes over")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """The owner's folder below two others; some archives hold theirs twice."""
  top = tmp_path_factory.mktemp("tmed2")
  root = top / "TMED2" / "approved_users_only"
  labels = {
    i["key"]: [i["view"], i["grade"]] for i in IMAGES if i["key"] != "6s1_4.png"
  }
  labels["6s1_2.png"][1] = "mild_AS"
  labels |= {"90s1_0.png": ["PLAX", "no_AS"], "91s1_0.png": ["PLAX", "no_AS"]}
  lines = [f"{key},{','.join(both)}" for key, both in labels.items()]
  lines = ["6s1_3.png,PSAX,severe_AS", *lines, lines[0]]
  lines.append("6s1_5.png,PSAX,severe_AS")
  write_tables(root, IMAGES, FURTHER, lines, "\r\n", "\ufeff")
  for n, image in enumerate(IMAGES + FURTHER):
    if image["key"] != "7s1_0.png":
      write_png(root, f"{image['folder']}/{image['key']}", PICTURES[n])
  folder = root / BOTH / "labeled"
  whole = (folder / "7s1_3.png").read_bytes()
  (folder / "7s1_1.png").write_bytes(b"")
  (folder / "7s1_2.png").write_bytes(whole[: len(whole) // 2])
  (folder / "7s1_3.png").write_bytes(read_wrongly(whole))
  tinted = np.stack([PICTURES[0], PICTURES[0] // 2, PICTURES[0] // 4], -1)
  write_png(root, f"{BOTH}/labeled/7s1_4.png", tinted)
  deep = Image.fromarray(PICTURES[0].astype(np.uint16) * 200)
  deep.save(folder / "7s1_5.png")
  write_png(root, f"{BOTH}/labeled/7s1_6.png", PICTURES[0][:64, 24:88])
  for place in (IN_FOLDER, ORPHAN, f"{BOTH}/labeled/labeled/1s1_1.png"):
    write_png(root, place, PICTURES[1])
  return top


@pytest.fixture(scope="module")
def report(source, tmp_path_factory):
  return build(dataset(source), tmp_path_factory.mktemp("data"), progress=False)


@pytest.fixture(scope="module")
def ledger(report):
  return pd.read_csv(report.path / "ledger.csv", dtype=str).fillna("")


def record_of(report, name):
  for split in ("pretrain", "train", "validation", "test"):
    try:
      videos = VideoSource(report.path, split)
    except ValueError:
      continue  # nothing of that split was built
    ids = videos.index["video_id"].tolist()
    if f"tmed2:{name}" in ids:
      return videos[ids.index(f"tmed2:{name}")]
  raise LookupError(name)


def test_counts_add_up(report, ledger):
  """Every row, every image without one and every file is there once."""
  unlisted, lacking, doubled = 2, 1, 1
  rows = len(IMAGES) + len(FURTHER)
  assert report.found == rows + unlisted + lacking + doubled
  assert report.found == report.written + report.rejected
  ended = ledger[ledger["status"] != "noted"]
  assert len(ended) == report.found
  rejected = ended[ended["status"] == "rejected"]["item"]
  # The second of two equal rows is refused under the name of the first.
  assert set(rejected) == {*REJECTED, f"{BOTH}/labeled/8s1_0.png"}


@pytest.mark.parametrize(("item", "reason"), REJECTED.items())
def test_what_was_rejected_says_why(ledger, item, reason):
  rows = ledger[(ledger["item"] == item) & (ledger["status"] == "rejected")]
  assert len(rows) == (2 if item.endswith("8s1_1.png") else 1)
  assert rows["reason"].str.startswith(reason).all(), rows["reason"].tolist()


@pytest.mark.parametrize(("item", "note"), NOTED.items())
def test_what_is_odd_is_kept_with_a_note(ledger, item, note):
  rows = ledger[ledger["item"] == item]
  assert "written" in set(rows["status"])
  assert rows["reason"].str.contains(note, regex=False).any()


def test_a_sound_image_has_no_note(ledger):
  for item in ("1s1_0", "2s1_0", "3s1_0", "3s2_0"):
    rows = ledger[ledger["item"] == f"{BOTH}/labeled/{item}.png"]
    assert set(rows["status"]) == {"written"}


def test_record_of_an_image(report):
  record = record_of(report, f"{BOTH}/labeled/1s1_0")
  assert record["kind"] == "still" and len(record["frames"]) == 1
  assert record["frame_time_ms"].tolist() == [0]
  assert (record["view"], record["split"]) == ("PLAX", "train")
  assert record["as_tmed5"] == "severe_AS"
  assert record["as_tmed3"] == "significant"
  assert record["study_id"] == "tmed2:1s1"
  assert record["patient_id"] == "tmed2:1" and record["patient_known"] == 1
  assert np.isnan(record["spacing_mm"]).all()
  frame = decode_frame(record["frames"][0], "png", (112, 112, 1))
  np.testing.assert_array_equal(frame[..., 0], PICTURES[0])


def test_no_record_is_a_video(report):
  index = read_index(report.path)
  assert set(index["kind"]) == {"still"}
  assert set(index["frame_count"]) == {1}


def test_one_key_in_two_folders_is_two_pictures(report):
  """The label of the one must not reach the other."""
  other = record_of(report, f"{BOTH}/unlabeled/1s1_0")
  assert (other["view"], other["split"]) == ("", "pretrain")
  assert other["as_tmed5"] == "severe_AS"  # of the study, in the fold's table
  frame = decode_frame(other["frames"][0], "png", (112, 112, 1))
  np.testing.assert_array_equal(frame[..., 0], PICTURES[len(IMAGES)])


def test_an_image_of_an_unlabelled_folder_needs_no_row(report):
  record = record_of(report, "unlabeled_set/99s1_0")
  assert record["split"] == "pretrain" and record["patient_id"] == "tmed2:99"
  assert (record["view"], record["as_tmed5"], record["as_tmed3"]) == ("",) * 3


def test_five_grades_and_the_official_three(report):
  three = ("none", "early", "early", "significant", "significant")
  for i, (grade, coarse) in enumerate(zip(GRADES, three, strict=True)):
    record = record_of(report, f"{BOTH}/labeled/2{i}s1_0")
    assert (record["as_tmed5"], record["as_tmed3"]) == (grade, coarse)
  assert set(AS_TMED3.values()) == set(schema.AS_TMED3)


def test_a_misspelt_split_is_no_pretraining(tmp_path):
  words = ("tset", "", "not_used", "Not_Provided", "TEST")
  images = [labelled(f"{n}s1_0", word) for n, word in enumerate(words)]
  write_tables(tmp_path, images)
  for one, picture in zip(images, PICTURES, strict=False):
    write_png(tmp_path, f"{one['folder']}/{one['key']}", picture)
  found = dataset(tmp_path)
  assert [item.split for item in found.items] == ["pretrain"] * 3 + ["test"]
  ((name, reason),) = found.refused
  assert name.endswith("/0s1_0.png")
  assert reason.startswith("diagnosis_classifier_split is 'tset', wants one of")


def test_a_view_that_is_not_one_is_unknown(report):
  record = record_of(report, f"{BOTH}/labeled/1s1_2")
  assert record["view"] == "" and record["as_tmed5"] == "severe_AS"


def test_splits_are_the_owners_and_no_patient_is_in_two(report):
  wanted = {f"{BOTH}/labeled/2s1_0": "validation",
            f"{BOTH}/labeled/3s1_0": "test", f"{BOTH}/labeled/3s2_0": "test",
            f"{BOTH}/labeled/5s2_0": "test",
            f"{VIEW}/labeled/4s1_0": "pretrain"}  # fmt: skip
  for name, split in wanted.items():
    assert record_of(report, name)["split"] == split
  index = read_index(report.path)
  for held in ("test", "validation"):
    inside = index["split"] == held
    assert not set(index[inside].patient_id) & set(index[~inside].patient_id)


def test_split_by_view(source):
  items = {i.name: i for i in dataset(source, split_by="view").items}
  assert items[f"{VIEW}/labeled/4s1_0.png"].split == "test"


def test_without_the_unlabelled(source):
  made = dataset(source, unlabelled=False)
  names = [item.name for item in made.items] + [n for n, _ in made.refused]
  assert not [name for name in names if "unlabeled" in name]
  assert made.settings["unlabelled"] is False


def study_of(tmp_path, count, split="train"):
  """A study of so many images, all of one picture."""
  root = tmp_path / f"study{count}"
  images = [labelled(f"1s1_{i}", split) for i in range(count)]
  write_tables(root, images)
  for image in images:
    write_png(root, f"{image['folder']}/{image['key']}", PICTURES[0])
  return root


def test_the_count_of_images_is_in_no_record(tmp_path):
  """Severe stenosis has more images: the number would give the grade away.

  A record is the same in a study of one image and of nine, and two images
  that look alike differ in their name alone.
  """
  alone, many = (dataset(study_of(tmp_path, count)) for count in (1, 9))
  (item,) = alone.items
  wanted = alone.read(item)
  assert len(many.items) == 9
  for other in many.items:
    record, notes = many.read(other)
    assert notes == wanted[1]
    for name in schema.FIELDS:
      if name == "video_id" and other is not many.items[0]:
        continue
      np.testing.assert_equal(record[name], wanted[0][name], err_msg=name)


def test_as_released_is_named_so(tmp_path):
  root = tmp_path / "t"
  images = [
    *(labelled(f"1s1_{i}", view="PLAX" if i else "A2C") for i in (0, 2, 1)),
    labelled("1s2_0", "val"),
    labelled("10s1_0", "test", grade="mildtomod_AS"),
    labelled("2s1_0", view="A4CorA2CorOther"),
    labelled("3s1_0", "not_used", "PLAX", NONE, VIEW),
    labelled("4s1_0"), labelled("4s1_1"),
  ]  # fmt: skip
  write_tables(root, images)
  for n, image in enumerate(images):
    if image["key"] != "4s1_1.png":
      write_png(root, f"{image['folder']}/{image['key']}", PICTURES[n])
  made = dataset(root, as_released=True)
  assert made.name == "tmed2_as_released" and made.settings["as_released"]
  assert "not time" in made.description
  assert dict(made.refused) == {
    "1s1": "patient in two splits: held out for validation, so not in train",
    "2s1": "as released: the first view is 'A4CorA2CorOther', not one view",
    "3s1": "as released: no diagnosis or no split in its first row",
    "4s1": f"image absent: {BOTH}/labeled/4s1_1.png is not there",
  }
  assert [item.name for item in made.items] == ["10s1", "1s2"]
  with pytest.raises(ValueError, match="splits by diagnosis"):
    dataset(root, as_released=True, split_by="view")


def test_as_released_stacks_a_study_in_the_tables_order(tmp_path):
  root = tmp_path / "t"
  order = (0, 2, 10, 1)
  images = [labelled(f"1s1_{i}") for i in order]
  write_tables(root, images)
  for i, image in zip(order, images, strict=True):
    write_png(root, f"{image['folder']}/{image['key']}", PICTURES[i])
  report = build(
    dataset(root, as_released=True), tmp_path / "d", progress=False
  )
  assert report.path.parent.name == "tmed2_as_released"
  record = record_of(report, "1s1")
  assert record["kind"] == "cine" and record["view"] == ""
  assert np.isnan(record["frame_time_ms"]).all()
  assert record["patient_id"] == "tmed2:1" and record["as_tmed5"] == "severe_AS"
  frames = [decode_frame(f, "png", (112, 112, 1)) for f in record["frames"]]
  wanted = PICTURES[list(order)][..., None]
  np.testing.assert_array_equal(np.stack(frames), wanted)
  ledger = (report.path / "ledger.csv").read_text()
  assert "4 stills of one study: not a video" in ledger


def test_stills_of_two_sizes_make_no_video(tmp_path):
  root = study_of(tmp_path, 2)
  write_png(root, f"{BOTH}/labeled/1s1_1.png", PICTURES[0][:64, :64])
  made = dataset(root, as_released=True)
  with pytest.raises(ValueError, match="images of 2 sizes or colours"):
    made.read(made.items[0])


@pytest.mark.parametrize(
  "text", ["DEV479", "DEV479:3", "DEV480:0", "0", "DEV479:00"]
)
def test_folds_that_are_not_there(text):
  with pytest.raises(ValueError, match=f"no fold '{text}'; there are DEV479"):
    parse_fold(text)


@pytest.mark.parametrize(
  ("file", "column"),
  [
    (LABELS, "view_label"),
    ("DEV479/TMED2_fold0_labeledpart.csv", "SourceFolder"),
    ("DEV479/TMED2_fold0_labeledpart.csv", "view_classifier_split"),
  ],
)
def test_missing_column_is_named(tmp_path, file, column):
  path = study_of(tmp_path, 1) / file
  path.write_text(path.read_text().replace(column, "Other", 1))
  with pytest.raises(ValueError, match=f"has no column {column};"):
    dataset(tmp_path)


def test_missing_tables_are_named(tmp_path):
  root = study_of(tmp_path, 1)
  with pytest.raises(FileNotFoundError, match="no DEV56/TMED2_fold2_labeledp"):
    dataset(tmp_path, fold="DEV56:2")
  (root / "DEV479" / "TMED2_fold0_unlabeledpart.csv").unlink()
  with pytest.raises(FileNotFoundError, match="or pass --unlabelled none"):
    dataset(tmp_path)
  assert len(dataset(tmp_path, unlabelled=False).items) == 1


def test_command_line(tmp_path, capsys):
  root = study_of(tmp_path, 2)
  command = ["build", "tmed2", "--source", str(root), "--data-dir",
             str(tmp_path / "d"), "--fold", "DEV479:0", "--size", "56", "56",
             "--unlabelled", "none", "--split-by", "view"]  # fmt: skip
  assert main(command) == 0
  assert "2 found = 2 written + 0 rejected" in capsys.readouterr().out
  assert main([*command, "--as-released"]) == 1
  assert "splits by diagnosis" in capsys.readouterr().err
  assert main([*command[:-2], "--as-released"]) == 0
  assert (tmp_path / "d" / "tmed2_as_released").is_dir()


def test_items_say_what_they_are_read_from(source):
  """A build that goes on sees by them what was replaced."""
  made_builds.check_files(dataset(source))
  made_builds.check_files(dataset(source, as_released=True))
