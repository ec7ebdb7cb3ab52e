"""The spatial median against scipy, borders included."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import median_filter

from echo_jax.objectives.median import median_of_frames


@pytest.mark.parametrize("size_px", [3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_medians_are_scipys(size_px, dtype):
  video = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 7, 2))
  video = video.astype(dtype)
  got = median_of_frames(jnp.asarray(video), size_px)
  squares = (1, 1, size_px, size_px, 1)  # frames and channels stay apart
  wanted = median_filter(video, squares, mode="nearest")
  assert got.dtype == dtype
  np.testing.assert_array_equal(got, wanted)


def test_another_size_is_refused():
  with pytest.raises(ValueError, match="a median over 4 px"):
    median_of_frames(jnp.zeros((1, 1, 4, 4, 1)), 4)
