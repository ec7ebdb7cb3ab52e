"""One question a file: each is a sweep over some settings of an experiment."""
