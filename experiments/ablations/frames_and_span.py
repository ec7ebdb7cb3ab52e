"""How many frames, over how much time?

From scratch: weights are of one input contract and refuse another.  A span of
0 is the whole video, as the released code has it.

Example:
  echo-jax sweep experiments/ablations/frames_and_span.py \\
    --workdir runs/frames_and_span
  echo-jax table --runs runs/frames_and_span
"""

from collections.abc import Iterator

from experiments.ablations import finetune

get_config, build, tiny = finetune.get_config, finetune.build, finetune.tiny


def sweep() -> Iterator[dict[str, object]]:
  """Frames and seconds of a clip, as flat overrides."""
  for frames in (8, 16, 32):
    for span_s in (0.7, 1.4, 2.8, 0.0):
      for seed in finetune.SEEDS:
        yield {
          "input.frames": frames, "input.span_s": span_s, "run.seed": seed
        }  # fmt: skip
