"""What the paper's tables are of: data set, target and how it is judged."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Task:
  """A table of the paper.

  Attributes:
    name: of the table, and the first part of its rows' files.
    title: of the table.
    target: a row of the task table; the run is trained on it alone.
    metrics: what of it the table shows.
    level: of the rows that are judged: one clip a video, as the published
      values are ("clip"), or the mean over a study's images ("study").
    training_clips: of an epoch, which gives the number of steps.
    build: the words of `echo-jax build` that make the data set.
    settings: what differs from `ef_finetune`, by dotted name.
  """

  name: str
  title: str
  target: str
  metrics: tuple[str, ...]
  training_clips: int
  build: str
  level: str = "clip"
  settings: Mapping[str, object] = field(default_factory=dict)

  @property
  def dataset(self) -> str:
    """Name of the data set."""
    return self.build.split()[0]


_ERRORS = ("mae", "rmse", "r2")
_ECHONET = {
  "build": "echonet_dynamic --source EchoNet-Dynamic",
  "training_clips": 7465,
}

ECHONET_LVEF = Task(
  "echonet_lvef", "EchoNet-Dynamic, LVEF", "ef_pct", _ERRORS, **_ECHONET
)
ECHONET_ESV = Task(
  "echonet_esv", "EchoNet-Dynamic, ESV", "esv_ml", _ERRORS, **_ECHONET
)
ECHONET_EDV = Task(
  "echonet_edv", "EchoNet-Dynamic, EDV", "edv_ml", _ERRORS, **_ECHONET
)
ECHONET_EF_BELOW_50 = Task(
  "echonet_ef_below_50", "EchoNet-Dynamic, EF below 50 %", "ef_below_50",
  ("accuracy", "f1", "auroc"), **_ECHONET,
  settings={"threshold": 0.5},  # as the public code cuts
)  # fmt: skip
# Patients by number and the two-chamber view alone, as the published value is
# said to be of.
CAMUS_LVEF = Task(
  "camus_lvef", "CAMUS, LVEF", "ef_pct", ("mae", "rmse", "r2", "pearson_r"),
  training_clips=400,
  build="camus --source CAMUS_public --split by_number --simpson camus",
  settings={"data.views": ("A2C",)},
)  # fmt: skip
# Stills, whose order in a study is no time: each is a clip of its own and a
# study's grade the mean over them.  The owner's pages do not give the number
# of training images; 360 of 598 studies with 17,271 images have about so many.
TMED2_AS = Task(
  "tmed2_as", "TMED-2, aortic stenosis", "as_tmed5",
  ("macro_auroc", "balanced_accuracy", "macro_f1", "accuracy"), level="study",
  training_clips=10_400, build="tmed2 --source TMED2 --fold DEV479:1",
  settings={"data.kinds": ("still",), "data.views": ()},
)  # fmt: skip

TASKS = {
  task.name: task
  for task in (
    ECHONET_LVEF, ECHONET_ESV, ECHONET_EDV, ECHONET_EF_BELOW_50, CAMUS_LVEF,
    TMED2_AS,
  )
}  # fmt: skip
