"""The largest recording that is read; beyond it a file is refused unopened.

Echo on a 4K screen has 8.3 million pixels a frame, ten seconds of contrast at
1024x768 and 50 Hz take 1.1 GiB in colour.
"""

LARGEST_BYTES = 2 * 2**30
LARGEST_FRAME_PX = 2**24
MOST_FRAMES = 2**16
