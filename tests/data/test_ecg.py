"""ECG records as PhysioNet keeps them: made ones, and their faults."""

import builtins

import numpy as np
import pytest
import wfdb
from scipy.signal import resample_poly
from wfdb.processing import compare_annotations

from echo_jax.data.ingest.ecg import ECG, r_peaks_ms, read_wfdb
from echo_jax.data.ledger import Rejected

BEATS_MS = np.array([400, 1230, 2010, 2890, 3650, 4470, 5320, 6100, 6930, 9100])


def heartbeat(hz, span_s=10.0, beats_ms=BEATS_MS, noise_mv=0.02, seed=0):
  """QRS complexes of 1 mV with their T waves, planted at known times."""
  t_ms = 1000 * np.arange(int(span_s * hz)) / hz
  wave = np.random.default_rng(seed).normal(0, noise_mv, len(t_ms))
  for beat in beats_ms:
    for height, at, width in ((1.0, 0, 12), (-0.2, 30, 12), (0.25, 250, 45)):
      wave += height * np.exp(-(((t_ms - beat - at) / width) ** 2))
  return wave


def write(folder, name="rec", hz=500, leads=("I", "aVR"), units=("mV", "mV")):
  """A record whose second lead is the first upside down; true millivolts."""
  mv = np.stack([heartbeat(hz), -heartbeat(hz)], -1)
  scale = {"uV": 1000.0}
  stored = mv * [scale.get(unit, 1.0) for unit in units]
  wfdb.wrsamp(
    name, fs=hz, units=list(units), sig_name=list(leads), p_signal=stored,
    fmt=["16", "16"], write_dir=str(folder),
  )  # fmt: skip
  return folder / name, mv


def edit(path, old, new):
  header = path.with_name(path.name + ".hea")
  text = header.read_text()
  assert old in text
  header.write_text(text.replace(old, new))
  return path


@pytest.mark.parametrize("units", [("mV", "mV"), ("mV", "uV"), ("uV", "uV")])
def test_whatever_the_unit_it_comes_out_in_millivolts(tmp_path, units):
  path, mv = write(tmp_path, units=units)
  ecg = read_wfdb(path)
  assert ecg.hz == 500 and ecg.leads == ("i", "avr")
  assert ecg.mv.dtype == np.float32
  np.testing.assert_allclose(ecg.mv, mv, atol=2e-4)


def test_an_endless_header_line_is_refused_at_once(tmp_path):
  path, _ = write(tmp_path)
  with path.with_name("rec.hea").open("a") as header:
    header.write("A" * 70_000)
  with pytest.raises(Rejected, match="header line above 1000"):
    read_wfdb(path)


def test_a_micro_sign_is_never_taken_for_nothing(tmp_path):
  """wfdb drops what is not ASCII: V remains, a million times too large."""
  path, _ = write(tmp_path)
  edit(path, "/mV", "/\u00b5V")
  with pytest.raises(Rejected, match="unit not known: 'V' of lead 1,"):
    read_wfdb(path)


@pytest.mark.parametrize("unit", ["V", "NU", "mmHg", "MV"])
def test_other_units_are_refused_by_name(tmp_path, unit):
  path, _ = write(tmp_path)
  with pytest.raises(Rejected, match=f"unit not known: '{unit}' of lead 1,"):
    read_wfdb(edit(path, "/mV 16 0", f"/{unit} 16 0"))


def test_the_name_may_have_its_ending(tmp_path):
  path, _ = write(tmp_path)
  whole = read_wfdb(path.with_name("rec.hea"))
  np.testing.assert_array_equal(whole.mv, read_wfdb(path).mv)


def test_two_signal_files_of_one_header(tmp_path):
  path, mv = write(tmp_path)
  one = wfdb.rdrecord(str(path), physical=False)
  one.file_name = ["rec.dat", "rec.xyz"]
  one.wrsamp(write_dir=str(tmp_path))
  assert (tmp_path / "rec.xyz").exists()
  np.testing.assert_allclose(read_wfdb(path).mv, mv, atol=2e-4)
  (tmp_path / "rec.xyz").unlink()
  with pytest.raises(Rejected, match=r"absent: \.xyz is not beside"):
    read_wfdb(path)


def test_gaps_stay_gaps(tmp_path):
  mv = np.stack([heartbeat(500), heartbeat(500)], -1)
  mv[1000:1100, 1] = np.nan
  wfdb.wrsamp(
    "gap", fs=500, units=["mV"] * 2, sig_name=["I", "II"], p_signal=mv,
    fmt=["16"] * 2, write_dir=str(tmp_path),
  )  # fmt: skip
  read = read_wfdb(tmp_path / "gap").mv
  np.testing.assert_array_equal(np.isnan(read), np.isnan(mv))


def short(path):
  data = path.with_name("rec.dat")
  data.write_bytes(data.read_bytes()[:9000])


def swapped(path):
  """The samples of another record of the same length."""
  data = path.with_name("rec.dat")
  data.write_bytes(data.read_bytes()[::-1])


FAULTS = {
  "absent: it has no": lambda path: path.with_name("rec.hea").unlink(),
  r"absent: \.dat is not": lambda path: path.with_name("rec.dat").unlink(),
  "cannot be read": short,
  "is not its header's": swapped,
  "samples in 20000 bytes": lambda path: edit(path, " 5000", " 5" + "0" * 12),
  "sampling rate is 0": lambda path: edit(path, " 500 ", " 0 "),
  "without calibration": lambda path: edit(path, ".dat 16 ", ".dat 16 0/mV "),
  "want distinct": lambda path: edit(path, "aVR", "I"),
  "cannot be read.*Header": lambda path: edit(path, "rec.dat", "../rec.dat"),
  "several segments": lambda path: path.with_name("rec.hea").write_text(
    "rec/2 2 500 10000\nb 5000\nb 5000\n"
  ),
  "different sampling": lambda path: edit(path, ".dat 16 ", ".dat 16x2 "),
  "without signals": lambda path: path.with_name("rec.hea").write_text(
    "rec 0 500 5000\n"
  ),
  "cannot be read.*Syntax": lambda path: path.with_name("rec.hea").write_text(
    "<html>\n"
  ),
  "cannot be read.*Index": lambda path: path.with_name("rec.hea").write_bytes(
    b""
  ),
  "cannot be read.*Value": lambda path: (
    edit(path, " 5000", " 0"), path.with_name("rec.dat").write_bytes(b"")
  ),
  "cannot be read.*Key": lambda path: edit(path, ".dat 16 ", ".dat 17 "),
}


@pytest.mark.parametrize(("reason", "fault"), FAULTS.items())
def test_faults_are_refused_with_a_reason(tmp_path, reason, fault):
  path, _ = write(tmp_path)
  fault(path)
  with pytest.raises(Rejected, match=reason) as refused:
    read_wfdb(path)
  assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize(
  "fault",
  [
    swapped, lambda path: edit(path, "/mV 16", "/NU 16"),
    lambda path: edit(path, "aVR", "SECRET"),
  ],
)  # fmt: skip
def test_no_refusal_quotes_the_name_of_a_lead(tmp_path, fault):
  path, _ = write(tmp_path, leads=("SECRET", "aVR"))
  fault(path)
  with pytest.raises(Rejected, match="leads?") as refused:
    read_wfdb(path)
  assert "SECRET" not in str(refused.value).upper()


def test_without_wfdb_it_says_what_to_install(tmp_path, monkeypatch):
  path, _ = write(tmp_path)
  real = builtins.__import__

  def without(name, *rest, **more):
    if name.startswith("wfdb"):
      raise ImportError(name)
    return real(name, *rest, **more)

  monkeypatch.setattr(builtins, "__import__", without)
  with pytest.raises(ValueError, match=r"pip install 'echo-jax\[ecg\]'"):
    read_wfdb(path)


@pytest.mark.parametrize("hz", [128, 250, 360, 500, 1000])
def test_planted_beats_are_found(hz):
  ecg = ECG(heartbeat(hz)[:, None].astype(np.float32), float(hz), ("ii",))
  found = r_peaks_ms(ecg)
  score = compare_annotations(BEATS_MS, found.round().astype(int), 150)
  assert score.sensitivity == score.positive_predictivity == 1
  np.testing.assert_allclose(found, BEATS_MS, atol=12)


def test_beats_are_looked_for_in_a_lead_that_shows_them():
  flat = np.full(5000, 0.01, np.float32)
  wave = heartbeat(500).astype(np.float32)
  ecg = ECG(np.stack([flat, wave], -1), 500.0, ("v6", "ii"))
  assert len(r_peaks_ms(ecg)) == len(BEATS_MS)
  assert len(r_peaks_ms(ecg, "v6")) == 0
  with pytest.raises(ValueError, match="no ECG lead 'iii'"):
    r_peaks_ms(ecg, "iii")


@pytest.mark.parametrize("offset_mv", [-4.0, 4.0])
def test_the_ends_of_a_record_are_no_beats(offset_mv):
  """A baseline far from zero is not a step where the record ends."""
  wave = heartbeat(250).astype(np.float32) + np.float32(offset_mv)
  found = r_peaks_ms(ECG(wave[:, None], 250.0, ("ii",)))
  np.testing.assert_allclose(found, BEATS_MS, atol=12)


def test_nothing_is_found_where_the_signal_is_lost():
  wave = heartbeat(500)
  lost = slice(int(2.5 * 500), int(4.0 * 500))  # holds beats at 2.89 and 3.65 s
  wave[lost] = np.nan
  found = r_peaks_ms(ECG(wave[:, None].astype(np.float32), 500.0, ("i",)))
  wanted = BEATS_MS[(BEATS_MS < 2500) | (BEATS_MS > 4000)]
  np.testing.assert_allclose(found, wanted, atol=12)


def test_a_step_over_a_gap_is_no_beat():
  """The line over a gap may rise as steeply as a QRS complex."""
  wave = heartbeat(500)
  gap = slice(1215, 1235)  # 40 ms, between the beats at 2010 and 2890 ms
  wave[1225:] += 3.0
  bridged = wave.copy()
  bridged[gap] = np.linspace(wave[1214], wave[1235], 22)[1:-1]
  taken = r_peaks_ms(ECG(bridged[:, None].astype(np.float32), 500.0, ("i",)))
  assert ((taken > 2400) & (taken < 2500)).any()  # such a line is taken for one
  wave[gap] = np.nan
  found = r_peaks_ms(ECG(wave[:, None].astype(np.float32), 500.0, ("i",)))
  np.testing.assert_allclose(found, BEATS_MS, atol=12)


@pytest.mark.parametrize(
  ("samples", "hz", "named"),
  [(500, 500.0, "1 s at 500 Hz"), (5000, 40.0, "at 40 Hz")],
)
def test_too_little_to_find_beats_in(samples, hz, named):
  ecg = ECG(np.zeros((samples, 1), np.float32), hz, ("i",))
  with pytest.raises(ValueError, match=named):
    r_peaks_ms(ecg)
  empty = ECG(np.full((5000, 1), np.nan, np.float32), 500.0, ("i",))
  with pytest.raises(ValueError, match="lead i has no sample"):
    r_peaks_ms(empty)


def test_the_sampling_rate_does_not_move_the_beats():
  first = heartbeat(1000)
  again = resample_poly(first, 1, 4)
  at_1000, at_250 = (
    r_peaks_ms(ECG(w[:, None].astype(np.float32), hz, ("ii",)))
    for w, hz in ((first, 1000.0), (again, 250.0))
  )
  np.testing.assert_allclose(at_1000, at_250, atol=6)
