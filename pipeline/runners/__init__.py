"""Runners: what differs between a laptop and a cluster; the pipeline itself is `pipeline.pipeline`."""
