"""Reading, checking and quarantining the user's event log.

In: CSV, Parquet or TFRecord files with one event a row, under any column names. Out: Arrow batches in one canonical
schema, every row that breaks a rule with file, row and reason, and a report of what a log holds.
"""
