"""From files to batches: records, builders' shared way, clips, pipelines."""
