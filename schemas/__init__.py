"""Curated schemas of the raw examples, and the loader that completes them with a run's declared features."""
