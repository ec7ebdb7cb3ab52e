"""The demo: the whole main job on SynthEcho, small enough for a laptop."""
