"""What a person may set of the double; the defaults are those of tensorflow_model_server, whose flags are named."""

import dataclasses

MIB = 2**20


@dataclasses.dataclass(frozen=True)
class ServerOptions:
    """Limits and life of the versions.

    Attributes:
        max_body_bytes: a larger body is refused with 413; also the most that a gzip body may inflate to.
        timeout_seconds: for a body to arrive (then 408), and again for the graph to run (then 504).
            `--rest_api_timeout_in_ms`
        poll_seconds: between two looks at the version folders. `--file_system_poll_wait_seconds`
        config_poll_seconds: between two readings of models.config; 0 reads it once.
            `--model_config_file_poll_wait_seconds`
        max_load_retries: how often a version folder without its graph file is tried again. `--max_num_load_retries`
        load_retry_seconds: between two tries. `--load_retry_interval_micros`
        monitoring_path: where the metrics are served; None serves none, as the server without
            `--monitoring_config_file`.
        stop_seconds: that running requests have to end once the server is told to stop; then they get 503.
    """

    max_body_bytes: int = 100 * MIB
    timeout_seconds: float = 30.0
    poll_seconds: float = 1.0
    config_poll_seconds: float = 0.0
    max_load_retries: int = 5
    load_retry_seconds: float = 60.0
    monitoring_path: str | None = None
    stop_seconds: float = 30.0
