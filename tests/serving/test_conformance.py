"""Runs a folder of REST conformance cases against the local server, where one is given.

AMEN_TFSERVING_CASES names a folder with `cases.json` (requests and expected replies), `make_models.py OUT`
(which writes the SavedModels and a models.config into OUT) and `run_cases.py CASES URL`. Without it there is a skip.
"""

import os
import pathlib
import subprocess
import sys

import pytest

from serving.local_server import ServerOptions, running_server

VARIABLE = "AMEN_TFSERVING_CASES"


@pytest.mark.slow
def test_conformance_cases(tmp_path, wait_until):
    if VARIABLE not in os.environ:
        pytest.skip(f"{VARIABLE} names no folder with cases.json, make_models.py and run_cases.py")
    folder = pathlib.Path(os.environ[VARIABLE])
    models = tmp_path / "models"
    subprocess.run([sys.executable, str(folder / "make_models.py"), str(models)], check=True)
    with running_server(
        None, models_config=models / "models.config", options=ServerOptions(poll_seconds=0.1)
    ) as server:
        # A version that cannot load would stop a server that finds it at the start, so it comes now.
        (models / "staged" / "bad_newest" / "9").rename(models / "bad_newest" / "9")
        wait_until(lambda: server.status("bad_newest")[0].state == "END")
        command = [sys.executable, str(folder / "run_cases.py"), str(folder / "cases.json"), server.address]
        result = subprocess.run(command, capture_output=True, text=True)
    print(result.stdout)
    assert result.returncode == 0, result.stdout
