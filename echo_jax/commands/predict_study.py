"""`echo-jax predict` for a run of whole studies: a folder is a study."""

import argparse
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from echo_jax.commands.pseudonyms import whose
from echo_jax.data.ledger import Ledger, Rejected
from echo_jax.data.schema import SCALARS, VIEWS, unknown
from echo_jax.data.study_inputs import (
  Stated,
  StudyReader,
  parse_locations,
  parse_rules,
)
from echo_jax.data.study_places import find_studies
from echo_jax.evaluation.single_study import StudyFinding
from echo_jax.privacy.identities import NOBODY, masked
from echo_jax.privacy.keys import Key
from echo_jax.privacy.private_map import PrivateMap


def add_study_arguments(parser: argparse.ArgumentParser) -> None:
  """What a user may state of the files of a study."""
  group = parser.add_argument_group(
    "runs of whole studies",
    "An input is a folder of one study, or of folders of studies (parted by "
    "patient and StudyInstanceUID).  PATTERN is as of a shell (* ? [...]) and "
    "fits the path of a file below its study's folder.",
  )
  group.add_argument(
    "--doppler", action="append", default=[], metavar="PATTERN=LOCATION",
    help="where spectra were taken, which no header says plainly; others are "
    "named and not used.  aortic_cw, outflow_pw, mitral_pw or annulus_tdi.  "
    "Files of `simulate --as dicom`: '*aortic_cw*=aortic_cw' and so on",
  )  # fmt: skip
  group.add_argument(
    "--view", action="append", default=[], metavar="PATTERN=VIEW",
    help="view of cines whose header has no View Code (or a wrong one): A4C "
    "A2C A3C A5C PLAX PSAX SC OTHER",
  )  # fmt: skip
  group.add_argument(
    "--cut", action="store_true",
    help="cut each cine to its 2D region, without the words around: for a run "
    "on records that are so (SynthEcho, EchoNet)",
  )


def stated_by(args: argparse.Namespace) -> Stated:
  """The patterns of the command line.

  Raises:
    ValueError: one that is no PATTERN=WORD.
  """
  views = parse_rules(args.view, VIEWS, "VIEW")
  return Stated(parse_locations(args.doppler), views)


def refuse_options(args: argparse.Namespace) -> None:
  """Raises ValueError for words on studies, for a run of single videos."""
  if args.doppler or args.view or args.cut:
    raise ValueError(
      f"{args.workdir} predicts single videos; --doppler, --view and --cut are "
      "for runs of whole studies"
    )


def refuse_files(inputs: Iterable[Path]) -> None:
  """Raises ValueError for inputs that are no folders."""
  if files := [str(path) for path in inputs if not path.is_dir()]:
    raise ValueError(
      f"{', '.join(files)}: this run predicts whole studies; pass the folder "
      "of one, or of several"
    )


@dataclass
class StudyCommand:
  """Predicts folders under pseudonyms; `findings` by study, as they come."""

  reader: StudyReader
  predict: Callable[..., StudyFinding]
  key: Key
  ledger: Ledger
  names: PrivateMap
  findings: dict[str, StudyFinding]
  refused_files: int = 0
  pseudonyms: set[str] = field(default_factory=set)

  def run(self, inputs: Iterable[Path]) -> None:
    """Every study once; one that cannot be predicted stops no other."""
    places = {}
    for path in inputs:
      studies, left = find_studies(path)
      places |= {study.resolve(): study for study in studies}
      if left:
        print(f"{len(left)} files beside folders of studies: not read")
    for folder in places.values():
      name = self.key.word("path", str(folder.absolute()))
      self.names.add(name, folder)
      try:
        finding = self._finding(folder, name)
      except Rejected as reason:
        told = self._told(str(reason))
        self.ledger.rejected(name, "", told)
        print(f"{name}: not predicted: {told}")
      else:
        print(finding)

  def _finding(self, folder: Path, name: str) -> StudyFinding:
    """Of one folder; into the ledger too."""
    try:
      study = self.reader.read(folder, self._name_of)
    except OSError as error:
      raise Rejected(f"cannot be read ({type(error).__name__})") from error
    record = {one: unknown(one) for one in SCALARS} | {"split": "test"}
    record |= whose(study.found.identity, name, self.key)
    if record["study_id"] in self.findings:
      raise Rejected("duplicate: a folder before is of the same study")
    if not study.present:
      raise Rejected(
        "nothing that this model reads: "
        + "; ".join(str(s) for s in study.said if s.status != "noted")
      )
    finding = self.predict(study, record).told(self._told)
    for line in finding.said:
      if line.status != "found":
        self.ledger.noted(name, "", str(line))
    self.ledger.written(name, "")
    refused = {line.file for line in finding.said if line.status == "refused"}
    self.refused_files += len(refused)
    self.findings[record["study_id"]] = finding
    return finding

  def _name_of(self, path: Path) -> str:
    name, _ = self.key.name_file(path)
    self.names.add(name, path)
    self.pseudonyms.add(name)
    return name

  def _told(self, text: str) -> str:
    """A text masked, but for pseudonyms, which may hold four digits too."""
    if not self.pseudonyms:
      return masked(text, NOBODY)
    parts = re.split(f"({'|'.join(self.pseudonyms)})", text)
    return "".join(
      part if part in self.pseudonyms else masked(part, NOBODY)
      for part in parts
    )
