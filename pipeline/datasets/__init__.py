"""Public logs and a simulator, each brought into the event-log format.

In: a dataset's own files, or the simulator's settings. Out: a folder with Parquet event-log files and a ready
`settings.yaml`.
"""
