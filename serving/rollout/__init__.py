"""Moves version labels of a running TensorFlow Serving by editing its models.config, one safe step after the other.

`config_text` edits the text and keeps its comments, `config_file` puts it in place, `servers` asks what is loaded,
`folders` looks at the version folders, `steps` knows the order; `amen promote` and `amen rollback` are its callers.
"""
