"""What `predict` takes from an identified DICOM into its tables."""

import cv2
import pytest
from test_copies import KEY, moving, write

from echo_jax.commands import predict
from echo_jax.data.ledger import Rejected


def read(path):
  return predict._read(path, "name", KEY)[1]


@pytest.mark.parametrize(
  ("maker", "model", "device"),
  [
    ("GE Vingmed Ultrasound", "Vivid E95", "GE Vingmed Ultrasound Vivid E95"),
    ("Klinik Schneider", "Vivid E95", "Vivid E95"),
    ("Philips", "iE33 Dr Meier", "Philips"),
  ],
)  # fmt: skip
def test_a_device_is_of_known_words(tmp_path, maker, model, device):
  path = write(
    tmp_path / "x.dcm", moving(), Manufacturer=maker,
    ManufacturerModelName=model,
  )  # fmt: skip
  assert read(path)["device"] == device


@pytest.mark.parametrize(("age", "years"), [("061Y", 61), ("103Y", 90)])
def test_ages_over_89_are_90(tmp_path, age, years):
  path = write(tmp_path / "x.dcm", moving(), PatientAge=age)
  assert read(path)["age_years"] == pytest.approx(years)


def test_what_a_library_says_of_a_file_is_not_told(tmp_path, monkeypatch):
  def breaks(path):
    raise cv2.error("Muster")

  monkeypatch.setattr(predict, "read_recording", breaks)
  with pytest.raises(Rejected) as found:
    read(write(tmp_path / "x.dcm", moving()))
  assert str(found.value) == "cannot be read (error)"
