"""One runnable file an experiment: get_config, build, sweep and tiny."""
