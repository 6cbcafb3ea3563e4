"""Which server is asked and with what: a loopback address, and :predict bodies made of request files."""

import dataclasses
import ipaddress
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from serving.client import RankClient, load_request
from serving.columns import build_columns


class LoadTestError(Exception):
    """The load test cannot start; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Target:
    """What the load test sends.

    Attributes:
        url: of :predict.
        bodies: JSON bodies, asked in turn.
    """

    url: str
    bodies: tuple[bytes, ...]


def make_target(address: str, model_name: str, request_files: Sequence[str | Path], label: str | None = None) -> Target:
    """Reads the requests and asks the server each of them once, so that mistakes show before the load.

    Args:
        address: as `RankClient` takes it; its host must be this machine's loopback.
        model_name: name in the server's URLs.
        request_files: JSON files as `amen rank` reads them.
        label: whose version is asked, through promotions and rollbacks; None asks the highest one.

    Raises:
        LoadTestError: the host is another machine's.
        RankError: a file cannot be read, or the server does not answer it.
    """
    with RankClient(address, model_name, label=label) as client:
        check_loopback(client.address)
        calls = []
        for path in request_files:
            request = load_request(path)
            client.rank(request)
            calls.append(client.predict_call(build_columns(request, client.inputs)))
    return Target(calls[0][0], tuple(body for _, body in calls))


def check_loopback(url: str) -> None:
    """Raises LoadTestError unless the URL's host is `localhost` or a loopback address; no name is looked up."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        allowed = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        allowed = False
    if not allowed:
        raise LoadTestError(
            f"The load test asks servers on this machine only: expected 127.0.0.1, ::1 or localhost, got '{host}'. "
            "Run it where the server runs."
        )
