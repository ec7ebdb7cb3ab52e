"""What a train step will need of a TPU pod, found by compiling it for one."""
