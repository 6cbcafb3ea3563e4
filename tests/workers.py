"""Processes that train: alone, or as the workers of one cluster."""

import contextlib
import json
import os
import socket


def free_ports(count):
    """Ports of this machine that nothing listens on."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]


def two_workers():
    """TF_CONFIG of the chief and of the other worker of a new cluster."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    return [{"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(2)]


def environment(tf_config=None, **variables):
    """Variables of a process that trains on the CPU and, given a TF_CONFIG, as that worker."""
    found = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    found |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": "-1", **variables}
    return found | ({"TF_CONFIG": json.dumps(tf_config)} if tf_config else {})
