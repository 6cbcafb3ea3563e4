"""`amen serve` and `amen load-test`: the local double of TensorFlow Serving, and asking any local server at a rate."""

import functools
import pathlib
import tempfile

import click


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=pathlib.Path))
@click.option("--model", "model_name", default=None, help="Name in the URL; default: the folder's name.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8501, show_default=True, type=click.IntRange(0, 65535))
@click.option("--model-config-file", type=click.Path(path_type=pathlib.Path), help="models.config instead of a FOLDER.")
@click.option("--model-config-file-poll-wait-seconds", default=0.0, show_default=True, type=click.FloatRange(0))
@click.option("--monitoring-config-file", type=click.Path(path_type=pathlib.Path), help="Serves metrics where it says.")
@click.option("--rest-api-timeout-in-ms", default=30000, show_default=True, type=click.IntRange(1))
@click.option("--max-body-mib", default=100, show_default=True, type=click.IntRange(1), help="Larger bodies: 413.")
@click.option("--max-num-load-retries", default=5, show_default=True, type=click.IntRange(0))
@click.option("--load-retry-interval-micros", default=60_000_000, show_default=True, type=click.IntRange(0))
def serve(
    folder: pathlib.Path | None,
    model_name: str | None,
    host: str,
    port: int,
    model_config_file: pathlib.Path | None,
    model_config_file_poll_wait_seconds: float,
    monitoring_config_file: pathlib.Path | None,
    rest_api_timeout_in_ms: int,
    max_body_mib: int,
    max_num_load_retries: int,
    load_retry_interval_micros: int,
):
    """Serves the newest version in a push FOLDER over REST, as a development double of TensorFlow Serving.

    Options of tensorflow_model_server have its names and defaults.
    """
    from pipeline.runners.console import messages_in, quiet

    if (folder is None) == (model_config_file is None):
        raise click.UsageError("Give a push folder or --model-config-file, one of the two.")
    if model_name and folder is None:
        raise click.UsageError("--model names the model of a push folder; --model-config-file has the names itself.")
    log_file = pathlib.Path(tempfile.gettempdir()) / f"amen-serve-{port}.log"
    with quiet(log_file) as person:
        from serving.double.monitoring_config import read_monitoring_config
        from serving.double.options import MIB
        from serving.local_server import ServerOptions
        from serving.local_server import serve as serve_folder

        def ready(server):
            person.print(f"{server.banner}\n{messages_in(log_file)}", markup=False)

        options = ServerOptions(
            max_body_bytes=max_body_mib * MIB,
            timeout_seconds=rest_api_timeout_in_ms / 1000,
            # Whatever runs when the server is told to stop has ended by then.
            stop_seconds=rest_api_timeout_in_ms / 1000,
            config_poll_seconds=model_config_file_poll_wait_seconds,
            max_load_retries=max_num_load_retries,
            load_retry_seconds=load_retry_interval_micros / 1e6,
            monitoring_path=read_monitoring_config(monitoring_config_file) if monitoring_config_file else None,
        )
        name = model_name or (folder.resolve().name if folder else "")
        serve_folder(
            folder,
            name,
            host,
            port,
            models_config=model_config_file,
            options=options,
            on_ready=ready,
            on_event=functools.partial(person.print, markup=False),
        )


@click.command("load-test")
@click.argument("request_files", nargs=-1, required=True, type=click.Path(path_type=pathlib.Path))
@click.option("--address", default="http://127.0.0.1:8501", show_default=True, help="A server on this machine.")
@click.option("--model", "model_name", default="amen", show_default=True)
@click.option("--label", help="A version label such as stable; by default the highest version is asked.")
@click.option("--rate", default=50.0, show_default=True, type=click.FloatRange(0.1, 10_000), help="Requests a second.")
@click.option("--seconds", default=30.0, show_default=True, type=click.FloatRange(0.1, 3600))
@click.option("--concurrency", default=64, show_default=True, type=click.IntRange(1, 1024), help="Most under way.")
@click.option("--timeout", default=10.0, show_default=True, type=click.FloatRange(0.1, 60), help="Seconds for one.")
@click.option("--picture", type=click.Path(path_type=pathlib.Path), help="Also draw the latencies, as PNG.")
def load_test(request_files, address, model_name, label, rate, seconds, concurrency, timeout, picture):
    """Asks a server on this machine REQUEST_FILES at a fixed rate; status 1 if a request failed.

    Open loop: requests start at their scheduled times whether or not earlier ones are answered, and latencies count
    from then.
    """
    from serving.load_test.report import draw_latency, histogram_text, summarize
    from serving.load_test.runner import Load, run_load
    from serving.load_test.target import make_target

    target = make_target(address, model_name, request_files, label)
    load = Load(rate, seconds, concurrency, timeout)
    click.echo(f"{load.count} requests to {target.url} in {seconds:g} s")
    outcome = run_load(target.url, target.bodies, load)
    summary = summarize(outcome)
    click.echo(f"{summary.text()}\n\n{histogram_text(outcome)}")
    if picture:
        draw_latency(outcome, picture)
        click.echo(f"\nPicture: {picture}")
    return 1 if summary.errors else 0
