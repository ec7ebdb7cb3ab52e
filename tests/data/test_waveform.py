"""ECG waveform objects: made ones, a real one, and their faults."""

import numpy as np
import pydicom
import pytest
from made_ecg import HZ, channel, code, group, twelve, write_ecg
from made_signals import made_ecg
from pydicom.examples import get_path
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from echo_jax.data.ingest.waveform import read_waveform
from echo_jax.data.ledger import Rejected
from echo_jax.data.signals import LEADS

UNITS = "ChannelSensitivityUnitsSequence"
SOURCE = "ChannelSourceSequence"


def read(tmp_path, *groups, **header):
  return read_waveform(write_ecg(tmp_path / "ecg", groups, **header))


def test_twelve_leads_come_out_in_millivolts(tmp_path):
  ecg = read(tmp_path, twelve())
  assert (ecg.hz, ecg.leads, ecg.warnings) == (HZ, LEADS, ())
  assert ecg.mv.dtype == np.float32
  np.testing.assert_allclose(ecg.mv, made_ecg(HZ), atol=0.0013)


def test_a_true_ecg_is_what_pydicom_makes_of_it():
  """10 s of a Mortara el250; its median beats are left out by name."""
  path = get_path("waveform")
  ecg = read_waveform(path)
  theirs = pydicom.dcmread(path).waveform_array(0)  # uV
  np.testing.assert_allclose(ecg.mv, theirs / 1000, atol=1e-6)
  assert ecg.hz == 1000 and ecg.leads == LEADS
  assert ecg.warnings == (
    "1 derived groups of the ECG (median beats) left out",
  )


@pytest.mark.parametrize(
  ("unit", "mv"), [("uV", 0.001), ("mV", 1.0), ("V", 1000.0)]
)
def test_calibration_by_hand(tmp_path, unit, mv):
  """Of 8 steps: 8 x 0.0005 x 1.25 + 2 = 2.005 in that unit."""
  one = channel(
    "ii", ChannelSensitivity="0.0005", ChannelBaseline="0.2",
    ChannelSensitivityCorrectionFactor="1.25",
    **{UNITS: [code(unit, "UCUM")]},
  )  # fmt: skip
  ecg = read(tmp_path, group([[8.0], [-8.0]], [one], step_mv=1.0))
  wanted = [[0.205 * mv], [0.195 * mv]]
  np.testing.assert_allclose(ecg.mv, wanted, rtol=1e-6)


def test_factor_and_baseline_may_be_absent(tmp_path):
  one = channel(
    "ii", ChannelBaseline=None, ChannelSensitivityCorrectionFactor=None
  )
  ecg = read(tmp_path, group([[0.5], [1.0]], [one]))
  np.testing.assert_allclose(ecg.mv[:, 0], [0.5, 1.0], rtol=1e-6)


@pytest.mark.parametrize(
  "syntax", [ExplicitVRBigEndian, ImplicitVRLittleEndian]
)
def test_byte_order_is_that_of_the_file(tmp_path, syntax):
  dtype = ">i2" if syntax == ExplicitVRBigEndian else "<i2"
  mv = made_ecg(HZ)[:, 1:2]
  path = write_ecg(
    tmp_path / "ecg", [group(mv, [channel("ii")], dtype=dtype)], syntax
  )
  np.testing.assert_allclose(read_waveform(path).mv, mv, atol=0.0013)


@pytest.mark.parametrize(
  ("dtype", "bits", "form"), [("i1", 8, "SB"), ("<i4", 32, "SL")]
)
def test_samples_of_other_sizes(tmp_path, dtype, bits, form):
  """Three samples of one byte, and one that only fills up."""
  mv = [[0.1], [-0.2], [0.3]]
  one = group(
    mv, [channel("ii")], dtype=dtype, WaveformBitsAllocated=bits,
    WaveformSampleInterpretation=form,
  )  # fmt: skip
  np.testing.assert_allclose(read(tmp_path, one).mv, mv, rtol=1e-6)


def test_padding_is_a_gap(tmp_path):
  stored = np.array([[1.0, 2.0], [-32768 * 0.0025, 3.0]])
  leads = [channel("i"), channel("ii")]
  padding = np.int16(-32768).tobytes()
  ecg = read(tmp_path, group(stored, leads, WaveformPaddingValue=padding))
  np.testing.assert_array_equal(np.isnan(ecg.mv), [[0, 0], [1, 0]])
  assert not np.isnan(read(tmp_path, group(stored, leads)).mv).any()


@pytest.mark.parametrize("status", ["DISCONNECTED", "INVALID", "TEST DATA"])
def test_a_channel_without_signal_is_unknown(tmp_path, status):
  leads = [channel("i"), channel("ii", ChannelStatus=["UNZEROED", status])]
  ecg = read(tmp_path, group(made_ecg(HZ)[:, :2], leads))
  assert np.isnan(ecg.mv).all(axis=0).tolist() == [False, True]
  said = f"ECG channel 2 is {status}: its samples are unknown"
  assert ecg.warnings == (said,)


@pytest.mark.parametrize(
  ("source", "label", "name"),
  [
    (("5.6.3-9-63", "SCPECG"), None, "avl"),
    (("2:18", "MDC"), None, "vz"),
    (("X1", "99LOCAL"), "Lead aVF", "avf"),
    (("2:0", "MDC"), "V6", "v6"),
    (("X1", "99LOCAL", "Lead I (Einthoven)"), None, "i"),
    # Derived V1 (EASI) and V3R are other leads, whatever the label.
    (("2:33", "MDC"), "V1", "channel 1"),
    (("2:11", "MDC"), "V3", "channel 1"),
    (("X1", "99LOCAL"), "SECRET", "channel 1"),
  ],
)
def test_names_of_leads(tmp_path, source, label, name):
  one = channel("ii", **{SOURCE: [code(*source)]}, ChannelLabel=label)
  ecg = read(tmp_path, group([[1.0], [0.0]], [one]))
  assert ecg.leads == (name,)
  by_label = name in ("avf", "v6", "i")
  assert any("label taken" in w for w in ecg.warnings) == by_label


def test_groups_of_another_rate_are_not_mixed(tmp_path):
  """Limb and chest leads apart are joined; another rate is left out."""
  mv = made_ecg(HZ)
  limbs, chest = (
    group(mv[:, part], [channel(lead) for lead in LEADS[part]])
    for part in (slice(0, 6), slice(6, 12))
  )
  fast = group(mv[:, :1], [channel("i")], SamplingFrequency=1000)
  ecg = read(tmp_path, fast, limbs, chest)
  assert ecg.leads == LEADS and ecg.hz == HZ
  np.testing.assert_allclose(ecg.mv, mv, atol=0.0013)
  (said,) = ecg.warnings
  assert said.startswith("3 recorded groups in the ECG: the one with most lea")
  later = group(
    mv[:, 6:], [channel(lead) for lead in LEADS[6:]],
    MultiplexGroupTimeOffset="2500",
  )  # fmt: skip
  assert read(tmp_path, limbs, later).leads == LEADS[:6]


def changed(**changes):
  return lambda: twelve(**changes)


def changed_group(**changes):
  return lambda: group(made_ecg(HZ)[:, :1], [channel("i")], **changes)


FAULTS = {
  "ECG without units: channel 1 has no Channel": changed(**{UNITS: None}),
  "ECG without units: channel 1 ha": changed(**{UNITS: [code("", "UCUM")]}),
  "unit not known: that of channel 1": changed(**{UNITS: [code("MV", "UCUM")]}),
  "channel 1 is not V, mV or uV": changed(**{UNITS: [code("mm[Hg]", "UCUM")]}),
  "not known: that of chan": changed(**{UNITS: [code("mV", "99LOCAL")]}),
  "ChannelSensitivity of channel 1 is nan": changed(ChannelSensitivity=None),
  "ChannelSensitivity of channel 1 is 0,": changed(ChannelSensitivity="0"),
  r"steps of 2500 mV \(wants above 0": changed(**{UNITS: [code("V", "UCUM")]}),
  "a baseline of 9000 mV": changed(ChannelBaseline="9000000"),
  "steps of -0.0025 mV": changed(ChannelSensitivityCorrectionFactor="-1"),
  "channel 1 by 3 samples": changed(ChannelSampleSkew="3"),
  r"channel 1 by 2\.5 samples": changed(
    ChannelSampleSkew=None, ChannelTimeSkew="0.01"
  ),
  "i is there twice": changed(**{SOURCE: [code("2:1", "MDC")]}),
  "channel 1 is i by its code and v2 by its label": changed(ChannelLabel="V2"),
  "none of them ORIGINAL": changed_group(WaveformOriginality="DERIVED"),
  "sampling rate is 0 Hz": changed_group(SamplingFrequency="0"),
  "sampling rate is nan Hz": changed_group(SamplingFrequency=None),
  "2 channels, 1 of them": changed_group(NumberOfWaveformChannels=2),
  "2000 bytes of samples, 9 samples": changed_group(NumberOfWaveformSamples=9),
  "samples of 16 bits are not": changed_group(
    WaveformSampleInterpretation="US"
  ),
  "samples of 12 bits are not": changed_group(WaveformBitsAllocated=12),
}


@pytest.mark.parametrize(("reason", "fault"), FAULTS.items())
def test_faults_are_refused_with_a_reason(tmp_path, reason, fault):
  with pytest.raises(Rejected, match=reason) as refused:
    read(tmp_path, fault())
  assert "SECRET" not in str(refused.value)


def test_other_objects_and_half_a_file_are_refused(tmp_path):
  haemodynamic = "1.2.840.10008.5.1.4.1.1.9.2.1"
  with pytest.raises(Rejected, match="no ECG waveform object"):
    read(tmp_path, twelve(), SOPClassUID=haemodynamic)
  with pytest.raises(Rejected, match="0 multiplex groups"):
    read(tmp_path)
  path = write_ecg(tmp_path / "ecg", [twelve()])
  path.write_bytes(path.read_bytes()[:9000])
  with pytest.raises(Rejected, match="damaged|truncated"):
    read_waveform(path)
