"""The shards of a build on Apache Beam (extra `[beam]`): Create | ParDo.

Workers write to the build's folder, which all of them must see under the same
path.  Finishing is that of every build.
"""

import pickle
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from echo_jax.data.crew import Crew
from echo_jax.data.plan import Read, Shard


def run_on_beam(
  read: Read, folder: Path, shards: Sequence[Shard], options: Sequence[str]
) -> None:
  """Works through shards on the runner that the options name.

  Args:
    read: of the data set.
    folder: of all shards.
    shards: what to do.
    options: as Beam's command line has them, `--runner=FlinkRunner`.
  """
  if not shards:
    return
  # Runners limit the size of a pipeline's description, so it holds numbers.
  jobs = folder.parent / "jobs"
  jobs.mkdir(exist_ok=True)
  for shard in shards:
    _job_file(jobs, shard.number).write_bytes(pickle.dumps(shard))
  with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
    (
      pipeline
      | "Shards" >> beam.Create([shard.number for shard in shards])
      | "Spread" >> beam.Reshuffle()
      | "Read" >> beam.ParDo(_RunShard(read, folder, jobs))
    )


def _job_file(jobs: Path, number: int) -> Path:
  return jobs / f"{number:06d}.pickle"


class _RunShard(beam.DoFn):
  """Does a shard in a process of its own, so that a crash is survived."""

  def __init__(self, read: Read, folder: Path, jobs: Path):
    self._read, self._folder, self._jobs = read, folder, jobs
    self._crew: Crew | None = None

  def setup(self) -> None:
    self._crew = Crew(self._read, self._folder, workers=1)

  def process(self, number: int) -> None:
    shard = pickle.loads(_job_file(self._jobs, number).read_bytes())
    self._crew.run([shard], lambda items: None)

  def teardown(self) -> None:
    self._crew.close()
