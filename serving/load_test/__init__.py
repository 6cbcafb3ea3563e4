"""Load test of a ranking model on this machine: `amen load-test` asks at a fixed rate and says how long answers took.

Modules: `target` (which server, which bodies), `runner` (asks on schedule), `report` (figures and pictures of it).
"""
