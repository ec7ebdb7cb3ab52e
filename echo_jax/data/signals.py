"""ECG for a model: canonical leads, one rate, what is doubtful taken out.

A model has twelve places for leads and one sampling rate.  This brings any
recording there and marks what it does not have; nothing is filled in.
Axes: S stored sample, s sample at the model's rate, l lead, lead as stored.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

from echo_jax.data.ingest.ecg import (
  ECG,
  FLAT_MV,
  bridged,
  rate_ratio,
  resampled,
)  # fmt: skip

LIMB_LEADS = ("i", "ii", "iii", "avr", "avl", "avf")
LEADS = (*LIMB_LEADS, "v1", "v2", "v3", "v4", "v5", "v6")
LARGEST_MV = 40.0  # from lowest to highest; skin electrodes give a few mV
# Each sums to zero: Einthoven 1913, Goldberger 1942.
IDENTITIES: tuple[dict[str, float], ...] = (
  {"i": 1.0, "ii": -1.0, "iii": 1.0},
  {"avr": 1.0, "i": 0.5, "ii": 0.5},
  {"avl": 1.0, "i": -0.5, "iii": 0.5},
  {"avf": 1.0, "ii": -0.5, "iii": -0.5},
)
# Of the largest lead's deviation.  Chosen: PTB and PTB-XL records keep within
# 0.005, two leads exchanged give 1 to 2 unless they are nearly alike.
IDENTITY_TOLERANCE = 0.2
OPPOSED = -0.5  # correlation of I with V6, chosen; it is positive as a rule
LEAST_KNOWN = 0.5  # share of samples that a lead must have
CHECKED_S = 10.0  # of a recording, the length of a diagnostic ECG
EDGE_S = 0.2  # read past the end, so that the filter does not see it


@dataclass(frozen=True)
class PreparedECG:
  """What `ECGEncoder` takes, of one recording.

  Attributes:
    ecg_mv: leads in the order of `LEADS`, each less its median; 0 where there
      is none.
    lead_valid: False for a lead that is absent or was taken out.
    sample_valid: False in gaps, in padding and in leads that are not valid.
    flaws: what was taken out or is doubtful, in words.
  """

  ecg_mv: Float32[np.ndarray, "s l"]
  lead_valid: Bool[np.ndarray, " l"]
  sample_valid: Bool[np.ndarray, "s l"]
  flaws: tuple[str, ...]


def resample_ecg(
  ecg_mv: Float[np.ndarray, "S lead"], ecg_hz: float | int, to_hz: float | int
) -> tuple[Float32[np.ndarray, "s lead"], Bool[np.ndarray, "s lead"]]:
  """The same seconds at another rate, and which samples are known.

  Polyphase filtering (scipy's `resample_poly`): what the slower rate cannot
  hold is removed, not folded back.  Sample k lies k / to_hz after the first.
  Gaps (NaN) are bridged by straight lines for the filter's sake and marked
  unknown, with every new sample that stands next to a lost one.

  Raises:
    ValueError: a rate that is not above 0, or no sample.
  """
  _refuse_no_rate(len(ecg_mv), ecg_hz, to_hz)
  ratio = rate_ratio(ecg_hz, to_hz)
  if ratio == 0:
    raise ValueError(f"{to_hz:g} Hz is too slow for an ECG of {ecg_hz:g} Hz")
  known = np.isfinite(ecg_mv)
  signal = np.stack(
    [bridged(x, k) for x, k in zip(ecg_mv.T, known.T, strict=True)], axis=1
  )
  signal = resampled(signal, ratio)
  place = np.arange(len(signal)) / float(ratio)
  below = np.minimum(np.floor(place).astype(int), len(ecg_mv) - 1)
  above = np.minimum(np.ceil(place).astype(int), len(ecg_mv) - 1)
  return signal.astype(np.float32), known[below] & known[above]


def _refuse_no_rate(
  samples: int, ecg_hz: float | int, to_hz: float | int
) -> None:
  if not (0 < ecg_hz < np.inf and 0 < to_hz < np.inf) or not samples:
    raise ValueError(
      f"an ECG of {samples} samples at {ecg_hz:g} Hz cannot be brought to "
      f"{to_hz:g} Hz; it wants samples and rates above 0 Hz"
    )


def canonical_names(
  names: Sequence[str], leave_out: Sequence[str] = ()
) -> tuple[str, ...]:
  """Lead names as in `LEADS`, "" for those that are left out.

  Raises:
    ValueError: a name that is not one of the twelve, or one twice.
  """
  lower = tuple(name.strip().lower() for name in names)
  out = {name.strip().lower() for name in leave_out}
  kept = tuple("" if name in out else name for name in lower)
  strange = [name for name in kept if name and name not in LEADS]
  if strange or "" in lower:
    raise ValueError(
      f"ECG lead names {strange or lower} are not among {LEADS}; rename them "
      "if you know which they are, or leave them out by name"
    )
  twice = sorted({n for n in kept if n and kept.count(n) > 1})
  if twice:
    raise ValueError(f"ECG lead {twice} is there twice; leave one out")
  return kept


def prepare_ecg(
  ecg_mv: Float[np.ndarray, "S lead"],
  ecg_hz: float | int,
  names: Sequence[str],
  *,
  to_hz: float | int,
  span_s: float | int,
  leave_out: Sequence[str] = (),
) -> PreparedECG:
  """The first `span_s` seconds of a recording, ready for `ECGEncoder`.

  A shorter recording is followed by samples that are not valid.  Leads that
  are flat or mostly lost are taken out, and all limb leads where they break
  Einthoven's or Goldberger's identities: then a label or a sign is wrong and
  the chest leads alone are left.  `flaws` says so.

  Args:
    ecg_mv: NaN where the recorder lost the signal.
    ecg_hz: samples a second.
    names: of the leads, upper or lower case.
    to_hz, span_s: of the model.
    leave_out: names that may be there and are not used (Frank's vx, vy, vz).

  Raises:
    ValueError: a lead name that is not known or is there twice, no rate, or
      a signal too large for millivolts.
  """
  kept = canonical_names(names, leave_out)
  if len(kept) != ecg_mv.shape[1]:
    raise ValueError(f"ECG has {ecg_mv.shape[1]} leads and {len(kept)} names")
  columns = [i for i, name in enumerate(kept) if name]
  if not columns:
    raise ValueError(f"ECG has none of the leads {LEADS}")
  _refuse_no_rate(len(ecg_mv), ecg_hz, to_hz)
  read = ecg_mv[: round((span_s + EDGE_S) * ecg_hz), columns]
  mv, known = resample_ecg(read, ecg_hz, to_hz)
  mv, known = (x[: round(span_s * to_hz)] for x in (mv, known))
  leads = {
    kept[column]: _centred(mv[:, i], known[:, i])
    for i, column in enumerate(columns)
  }
  _refuse_other_units(leads)
  faults = lead_faults(leads)
  flaws = tuple(dict.fromkeys(faults.values()))
  doubt = arm_doubt({n: x for n, x in leads.items() if n not in faults})
  return _placed(
    {n: x for n, x in leads.items() if n not in faults},
    round(span_s * to_hz),
    flaws + ((doubt,) if doubt else ()),
  )


def usable_leads(ecg: ECG) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """Leads of the first 10 s that a model can use, and what others lack.

  Of leads that are not among the twelve only the positions are told.

  Raises:
    ValueError: as `prepare_ecg`.
  """
  strange = [name for name in ecg.leads if name not in LEADS]
  prepared = prepare_ecg(
    ecg.mv, ecg.hz, ecg.leads, to_hz=ecg.hz, span_s=CHECKED_S,
    leave_out=strange,
  )  # fmt: skip
  there = zip(LEADS, prepared.lead_valid, strict=True)
  flaws = prepared.flaws
  if strange:
    places = ", ".join(str(ecg.leads.index(name) + 1) for name in strange)
    flaws += (
      f"ECG leads in positions {places} are not among the twelve: not used",
    )
  return tuple(name for name, valid in there if valid), flaws


def _centred(
  mv: Float32[np.ndarray, " s"], known: Bool[np.ndarray, " s"]
) -> Float32[np.ndarray, " s"]:
  """Less its median, for electrodes carry a voltage of their own; NaN gaps."""
  middle = np.median(mv[known]) if known.any() else 0.0
  return np.where(known, mv - middle, np.nan).astype(np.float32)


def _refuse_other_units(leads: Mapping[str, Float[np.ndarray, " s"]]) -> None:
  for name, mv in leads.items():
    known = mv[np.isfinite(mv)]
    if len(known) and np.ptp(known) > LARGEST_MV:
      raise ValueError(
        f"ECG lead {name} spans {np.ptp(known):.4g} mV; believable is up to "
        f"{LARGEST_MV:g} mV.  If it was stored in uV, divide by 1000; if in "
        "steps of the recorder, divide by its gain"
      )


def _placed(
  leads: Mapping[str, Float[np.ndarray, " s"]],
  length: int,
  flaws: tuple[str, ...],
) -> PreparedECG:
  """Every lead in its place among the twelve."""
  mv = np.full((length, len(LEADS)), np.nan, np.float32)
  for name, signal in leads.items():
    mv[: len(signal), LEADS.index(name)] = signal
  valid = np.isfinite(mv)
  present = np.array([name in leads for name in LEADS])
  return PreparedECG(np.where(valid, mv, 0), present, valid, flaws)


def lead_faults(
  leads: Mapping[str, Float[np.ndarray, " s"]],
) -> dict[str, str]:
  """Leads that must not be used, with the reason; leads have median 0.

  True electrodes that were exchanged at the body keep the identities (arms
  exchanged: I is upside down, II and III change places): see `arm_doubt`.
  """
  faults = {}
  for name, mv in leads.items():
    known = mv[np.isfinite(mv)]
    share = len(known) / max(len(mv), 1)
    if share < LEAST_KNOWN:
      faults[name] = (
        f"ECG lead {name} has {share:.0%} of its samples, wants "
        f"{LEAST_KNOWN:.0%}: not used"
      )
    elif np.ptp(known) < FLAT_MV:
      faults[name] = (
        f"ECG lead {name} is flat: {np.ptp(known):.3g} mV from lowest to "
        f"highest, wants {FLAT_MV:g}: not used"
      )
  limbs = {n: leads[n] for n in LIMB_LEADS if n in leads and n not in faults}
  misfit = identity_misfit(limbs)
  if misfit > IDENTITY_TOLERANCE:
    reason = (
      f"limb leads break Einthoven's or Goldberger's identities by "
      f"{misfit:.2g} of the largest lead, wants {IDENTITY_TOLERANCE:g}"
      f"{_explanation(limbs)}: limb leads not used"
    )
    faults |= dict.fromkeys(limbs, reason)
  return faults


def identity_misfit(limbs: Mapping[str, Float[np.ndarray, " s"]]) -> float:
  """Largest deviation of a sum that should be 0, over the largest lead's.

  0 where too few leads are there to ask.
  """
  worst = 0.0
  for identity in IDENTITIES:
    if not all(name in limbs for name in identity):
      continue
    total = sum(weight * limbs[name] for name, weight in identity.items())
    if np.isfinite(total).any():
      size = max(np.nanstd(limbs[name]) for name in identity)
      worst = max(worst, float(np.nanstd(total) / size))
  return worst


def _explanation(limbs: Mapping[str, Float[np.ndarray, " s"]]) -> str:
  """The one exchange or inversion that would mend it; "" if not just one."""
  found = []
  for a, b in itertools.combinations(limbs, 2):
    mended = {**limbs, a: limbs[b], b: limbs[a]}
    if identity_misfit(mended) <= IDENTITY_TOLERANCE:
      found.append(f"; it fits if {a} and {b} are exchanged")
  for a in limbs:
    if identity_misfit({**limbs, a: -limbs[a]}) <= IDENTITY_TOLERANCE:
      found.append(f"; it fits if {a} is inverted")
  return found[0] if len(found) == 1 else ""


def arm_doubt(leads: Mapping[str, Float[np.ndarray, " s"]]) -> str:
  """Words where I and V6 are opposed, as with exchanged arm electrodes.

  Both look at the heart from the left and go up together as a rule; not in
  dextrocardia, and not with the electrodes of both arms exchanged.  A doubt:
  the leads are used.
  """
  if not {"i", "v6"} <= set(leads):
    return ""
  both = np.isfinite(leads["i"]) & np.isfinite(leads["v6"])
  # Where both are not known at once, or one is flat, there is none.
  pair = np.stack([leads["i"][both], leads["v6"][both]])
  if both.sum() < 2 or not pair.std(axis=1).all():
    return ""
  correlation = np.corrcoef(pair)[0, 1]
  if correlation > OPPOSED:
    return ""
  return (
    f"ECG leads i and v6 are opposed (correlation {correlation:.2f}): arm "
    "electrodes may be exchanged, or the heart lies on the right"
  )
