"""Open-loop load: every request has its time beforehand, and its latency counts from then.

A closed loop asks the next question when the last one is answered, so that a slow server is asked less and its queue
never shows. Here the times do not depend on the answers; a request that has to wait for a free connection waits at the
server's expense. How busy this process was is recorded beside it: one that has no time left is late by itself.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import ssl
import time
from collections.abc import Sequence

import httpx
import numpy as np

NOT_SENT = "not sent: all connections were taken until the end"
UNANSWERED = "no answer before the end"


@dataclasses.dataclass(frozen=True)
class Load:
    """What is asked of the server.

    Attributes:
        rate: requests a second, evenly spaced.
        seconds: for how long; `rate * seconds` requests are scheduled.
        concurrency: the most requests under way at once.
        timeout: seconds to wait for one answer, and for the last ones after the end.
    """

    rate: float = 50.0
    seconds: float = 30.0
    concurrency: int = 64
    timeout: float = 10.0

    @property
    def count(self) -> int:
        return max(1, round(self.rate * self.seconds))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of every scheduled request, in the order of their times.

    Attributes:
        load: what was asked.
        scheduled: [n] float64, seconds since the start.
        latency: [n] float64, seconds from the scheduled time to the whole answer; NaN where none came.
        errors: [n], "" for an answer with outputs, else what went wrong.
        elapsed: seconds from the start to the last answer.
        busy: share of that time in which this process worked.
    """

    load: Load
    scheduled: np.ndarray
    latency: np.ndarray
    errors: Sequence[str]
    elapsed: float
    busy: float


def run_load(url: str, bodies: Sequence[bytes], load: Load) -> Outcome:
    """Sends the load and waits for its answers.

    Args:
        url: of :predict.
        bodies: JSON bodies, sent in turn.
        load: how many, how fast.
    """
    return asyncio.run(_run(url, bodies, load))


async def _run(url: str, bodies: Sequence[bytes], load: Load) -> Outcome:
    scheduled = np.arange(load.count) / load.rate
    latency = np.full(load.count, np.nan)
    errors = [NOT_SENT] * load.count
    waiting = itertools.count()
    async with contextlib.AsyncExitStack() as stack:
        secure = ssl.create_default_context()
        # A client for each that asks: of a shared one, all connections are looked through for every request.
        clients = [
            await stack.enter_async_context(_client(load.timeout, secure))
            for _ in range(min(load.concurrency, load.count))
        ]
        start, worked = time.perf_counter(), time.process_time()

        async def ask_on(client: httpx.AsyncClient) -> None:
            # As many of these run as requests may be under way: each takes the next scheduled one when it is free.
            while (index := next(waiting)) < load.count:
                await asyncio.sleep(scheduled[index] - (time.perf_counter() - start))
                errors[index] = UNANSWERED
                errors[index] = await _ask(client, url, bodies[index % len(bodies)])
                if not errors[index]:
                    latency[index] = time.perf_counter() - start - scheduled[index]

        askers = asyncio.gather(*map(ask_on, clients))
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(askers, load.seconds + load.timeout)
        elapsed, worked = time.perf_counter() - start, time.process_time() - worked
    return Outcome(load, scheduled, latency, errors, elapsed, worked / elapsed)


def _client(timeout: float, secure: ssl.SSLContext) -> httpx.AsyncClient:
    """A client of one connection."""
    limits = httpx.Limits(max_connections=1)
    headers = {"Content-Type": "application/json"}
    # A proxy of the environment knows no way to a server on this machine.
    return httpx.AsyncClient(limits=limits, timeout=timeout, trust_env=False, verify=secure, headers=headers)


async def _ask(client: httpx.AsyncClient, url: str, body: bytes) -> str:
    """Asks once; returns "" or what went wrong."""
    try:
        reply = await client.post(url, content=body)
    except httpx.HTTPError as error:
        return type(error).__name__
    if reply.status_code != 200:
        return f"HTTP {reply.status_code}"
    return "" if b'"outputs"' in reply.content else "an answer without outputs"
