"""The Trainers' `run_fn`s, in the order base -> generator -> ctr; thin over `amen_tf`."""
