"""`amen promote` and `amen rollback`: which models.config, folder and servers are meant, then `serving.rollout`."""

import pathlib
import shlex
import subprocess
from collections.abc import Callable

import click

from amen_tf.config import Settings


def _options(command):
    """What both commands take."""
    path = click.Path(path_type=pathlib.Path)
    for option in (
        click.option(
            "--settings", type=path, help="Of the run: push.models_config, push.model_name and the push folder."
        ),
        click.option("--config", type=path, help="The models.config to edit."),
        click.option("--model", help="Name in models.config; default: push.model_name, or amen."),
        click.option(
            "--folder", type=path, help="Where this machine sees the versions; default: base_path, or the run's."
        ),
        click.option("--server", "servers", multiple=True, metavar="URL", help="REST address; once for each replica."),
        click.option("--apply", metavar="COMMAND", help="Run after every step: kubectl apply -k FOLDER."),
        click.option("--timeout", default=600.0, show_default=True, help="Seconds to wait for each thing."),
        click.option("--dry-run", is_flag=True, help="Print the diff of every step; ask and write nothing."),
    )[::-1]:
        command = option(command)
    return command


@click.command()
@click.argument("version", type=click.IntRange(0))
@click.option("--label", required=True, type=click.Choice(["stable", "canary"]))
@_options
@click.option("--no-wait", is_flag=True, help="Ask no server: only for a label that answers nobody yet.")
def promote(version: int, label: str, no_wait: bool, servers: tuple[str, ...], dry_run: bool, **where):
    """Moves a label to VERSION by editing models.config in safe steps.

    The version is listed, every server loads it, the label moves, and versions that no label names are dropped. The
    version that `stable` had stays loaded as `previous`. Given again, it goes on where it was interrupted.
    """
    if no_wait and servers:
        raise click.UsageError("--no-wait: no server is asked; leave out --server, or leave out --no-wait.")
    if not (no_wait or servers or dry_run):
        raise click.UsageError("Give --server URL for each replica, so that no label moves to what is not loaded.")
    _rollout(servers=servers, dry_run=dry_run, **where).promote(version, label)


@click.command()
@_options
def rollback(servers: tuple[str, ...], dry_run: bool, **where):
    """Moves the label `stable` back to the version that it had before, which is the label `previous`."""
    if not (servers or dry_run):
        raise click.UsageError("Give --server URL for each replica, so that no label moves to what is not loaded.")
    _rollout(servers=servers, dry_run=dry_run, **where).rollback()


def _rollout(*, settings, config, model, folder, servers, apply, timeout, dry_run):
    from pipeline.runners.layout import Layout
    from serving.rollout.config_file import ConfigFile
    from serving.rollout.servers import Servers
    from serving.rollout.steps import Rollout

    if settings is not None:
        loaded = Settings.load(settings)
        layout = Layout(loaded)
        config = config or layout.models_config
        model, folder = model or loaded.push.model_name, folder or layout.push
    if config is None:
        raise click.UsageError("Give --config models.config, or --settings with push.models_config.")
    file = ConfigFile(config, model or "amen", dry_run=dry_run)
    asked = Servers(servers, file.model, timeout) if servers else None
    return Rollout(file, folder or file.entry.base_path, asked, click.echo, _applying(apply))


def _applying(command: str | None) -> Callable[[], None]:
    """A call of the command that brings the written file to the servers."""

    def apply() -> None:
        if command is None:
            return
        try:
            subprocess.run(shlex.split(command), check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise click.ClickException(
                f"models.config is written, but was not applied: {error}. Mend --apply and give the same command again."
            ) from error

    return apply
