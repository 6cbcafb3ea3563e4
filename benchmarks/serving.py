"""How long an exported model takes for one user and many candidates.

usage: python -m benchmarks.serving MODEL [--rounds 7] [--gpu]

MODEL is a pushed version, such as runs/amen-demo/serving/amen/<version>. What is measured: `rank` for N candidates of
one user (1, 100, 500, 1000), `rank_with_flow` for 500, and 500 requests of one candidate each that repeat the moveline,
as plain calls of the SavedModel, which are the floor under every server; and `rank` for 1 and 500 over REST from the
local double, JSON included, one request after another. All by turns in each round, so that ratios are those of one
time. Status 1 if 500 candidates take more than 1.5 times as long as one, or are less than 20 times as fast as the 500
requests.

With --gpu the same on the GPU, with and without XLA (auto-clustering, as TF_XLA_FLAGS switches it on in a server), in a
process each; the scores are held against the CPU's.
"""

import os
import pathlib

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.jobs import run_job
from pipeline.commands import call
from pipeline.runners.console import print_uncut
from serving.double.warmup import WARMUP_FILE

ONE, WIDE = "rank, N = 1", "rank, N = 500"
REPEATED = "rank, 500 requests with N = 1"
OVER_REST = "over REST"
# Times of one candidate that 500 may take, and how much faster they must be than 500 requests.
MOST_OF_ONE, LEAST_OF_REPEATED = 1.5, 20.0
# TF32, on by default on newer GPUs, keeps ten bits of a number.
_FAR = 1e-3
console = Console(highlight=False)


def measure(model: pathlib.Path, rounds: int, gpu: bool = False, xla: bool = False) -> dict:
    """Runs the measurements in a new process; see `serving_job.main` for what it returns."""
    environment = dict(os.environ)
    if not gpu:
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    if xla:
        environment["TF_XLA_FLAGS"] = f"{environment.get('TF_XLA_FLAGS', '')} --tf_xla_auto_jit=2".strip()
    return run_job("benchmarks.serving_job", model, rounds, what=str(model), environment=environment)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=pathlib.Path))
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(1))
@click.option("--gpu", is_flag=True, help="Also on the GPU, with and without XLA.")
def main(model: pathlib.Path, rounds: int, gpu: bool) -> int:
    """Times of `rank` for many candidates of one user."""
    if not (model / WARMUP_FILE).is_file():
        raise click.ClickException(
            f"{model} has no {WARMUP_FILE}, whose requests are what is measured. Give a version that `amen run` pushed."
        )
    if not model.name.isdecimal():
        raise click.ClickException(
            f"{model} is no version: expected a folder with a number for a name, as Pusher makes it."
        )
    cpu = measure(model, rounds)
    show("CPU", cpu)
    missed = faults(cpu)
    if gpu:
        for name, xla in (("GPU", False), ("GPU with XLA", True)):
            found = measure(model, rounds, gpu=True, xla=xla)
            if not found["gpus"]:
                raise click.ClickException("TensorFlow sees no GPU here. Run this on a machine with one.")
            show(name, found)
            missed += [f"{name}: {fault}" for fault in differences(found["scores"], cpu["scores"], name)]
    for fault in missed:
        console.print(f"[red]Missed:[/] {fault}")
    return 1 if missed else 0


def show(title: str, found: dict) -> None:
    """Prints the times of one process."""
    table = Table(title=f"{title}, medians", title_justify="left")
    for column in ("request", "ms", "to N = 1", "candidates a second", "JSON out", "JSON back"):
        table.add_column(column, justify="left" if column == "request" else "right", no_wrap=True)
    for name, one in found["requests"].items():
        sizes = (f"{one[key] / 1024:,.1f} KiB" if one[key] else "" for key in ("json_request", "json_reply"))
        rate = one["candidates"] / one["ms"] * 1000
        table.add_row(name, f"{one['ms']:.2f}", f"{one['to_one']:.2f}", f"{rate:,.0f}", *sizes)
    print_uncut(table, console)


def differences(found: dict[str, list[float]], expected: dict[str, list[float]], where: str) -> list[str]:
    """Prints how far scores are from the CPU's, and returns what is too far."""
    missed = []
    for name, scores in expected.items():
        apart = float(np.abs(np.array(found[name]) - np.array(scores)).max())
        console.print(f"{where}, {name}: scores differ from the CPU's by {apart:.1e} at most")
        # Not `apart > _FAR`, which no NaN is.
        missed += [] if apart <= _FAR else [f"{name}: scores differ by {apart:.1e}, asked at most {_FAR:g}"]
    return missed


def faults(found: dict) -> list[str]:
    """What is asked of a CPU and was missed."""
    wide, repeated = found["requests"][WIDE], found["requests"][REPEATED]
    faster = repeated["to_one"] / wide["to_one"]
    missed = []
    if wide["to_one"] > MOST_OF_ONE:
        missed.append(f"{WIDE} takes {wide['to_one']:.2f} times as long as {ONE}, asked at most {MOST_OF_ONE:g}")
    if faster < LEAST_OF_REPEATED:
        missed.append(f"{WIDE} is {faster:.1f} times as fast as {REPEATED}, asked at least {LEAST_OF_REPEATED:g}")
    return missed


if __name__ == "__main__":
    call(main, "python -m benchmarks.serving")
