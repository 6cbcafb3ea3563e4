"""One package, so that a process started by a test finds its modules and not those of another `tests`."""
