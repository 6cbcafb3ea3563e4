"""What a load test found: figures, a histogram as text, a picture of the latency over time."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np

from serving.load_test.runner import Outcome

_BAR = 40
# Share of its time that this process may work: beyond, its own queue shows in the latencies.
_BUSY = 0.85


@dataclasses.dataclass(frozen=True)
class Summary:
    """Figures of a load test; latencies are of all requests that were due, in milliseconds from the scheduled time.

    Attributes:
        asked, achieved: requests a second; achieved are those with an answer.
        p50, p95, p99, longest: latencies; infinite where they are of a request that failed.
        answered: how many requests had an answer with outputs.
        errors: what went wrong -> how often.
        busy: share of the time in which the load test itself worked.
    """

    asked: float
    achieved: float
    p50: float
    p95: float
    p99: float
    longest: float
    answered: int
    errors: dict[str, int]
    busy: float

    def text(self) -> str:
        """Several lines for a person."""
        failed = sum(self.errors.values())
        lines = [
            f"requests    {self.answered + failed} sent or due, {self.answered} answered, {failed} failed",
            f"throughput  {self.asked:.1f}/s asked, {self.achieved:.1f}/s achieved",
            f"latency     p50 {_shown(self.p50)}, p95 {_shown(self.p95)}, p99 {_shown(self.p99)}, "
            f"max {_shown(self.longest)}, from the scheduled time",
        ]
        lines += [f"error       {count} x {kind}" for kind, count in sorted(self.errors.items())]
        if self.busy > _BUSY:
            lines.append(
                f"careful     the load test itself worked {self.busy:.0%} of the time, so latencies are its own, too; "
                "lower --rate, or run several of it"
            )
        return "\n".join(lines)


def summarize(outcome: Outcome) -> Summary:
    """The figures of a load test."""
    # A request that failed took longer than any: left out, the slowest would flatter the percentiles.
    every = np.where(np.isnan(outcome.latency), np.inf, outcome.latency * 1000)
    p50, p95, p99, longest = np.percentile(every, [50, 95, 99, 100], method="higher")
    answered = int(np.isfinite(every).sum())
    return Summary(
        asked=outcome.load.rate,
        # The schedule ends one interval after its last request; a server that lags behind takes longer.
        achieved=answered / max(outcome.elapsed, outcome.load.seconds),
        p50=float(p50),
        p95=float(p95),
        p99=float(p99),
        longest=float(longest),
        answered=answered,
        errors=dict(Counter(error for error in outcome.errors if error)),
        busy=outcome.busy,
    )


def _shown(milliseconds: float) -> str:
    return f"{milliseconds:.1f} ms" if np.isfinite(milliseconds) else "failed"


def histogram_text(outcome: Outcome, rows: int = 12) -> str:
    """Latencies of the answered requests in `rows` intervals that grow by a constant factor, one line each."""
    answered = _milliseconds(outcome)
    if not len(answered):
        return "no latencies: no request was answered"
    low, high = answered.min(), max(answered.max(), answered.min() * 1.01)
    edges = np.geomspace(low, high, rows + 1)
    # Rounding may put the extremes just outside.
    counts, _ = np.histogram(np.clip(answered, edges[0], edges[-1]), edges)
    width = len(f"{high:.1f}")
    return "\n".join(
        f"{left:{width}.1f} - {right:{width}.1f} ms  {count:7d}  {'#' * int(np.ceil(_BAR * count / counts.max()))}"
        for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True)
    )


def draw_latency(outcome: Outcome, path: str | Path) -> None:
    """Writes a PNG: every answer over its scheduled time, failures as marks at the top, and the share below a latency.

    Args:
        outcome: of a load test.
        path: of the PNG file; its folder exists.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    summary, latency = summarize(outcome), outcome.latency * 1000
    failed = np.array([bool(error) for error in outcome.errors])
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    over_time, shares = figure.subplots(1, 2, width_ratios=[2, 1])
    over_time.plot(outcome.scheduled, latency, ".", markersize=2, alpha=0.5, rasterized=True)
    if failed.any():
        marks = np.full(failed.sum(), np.nanmax(latency, initial=1.0))
        over_time.plot(outcome.scheduled[failed], marks, "rx", label=f"{failed.sum()} failed")
        over_time.legend(loc="upper right")
    over_time.set(xlabel="scheduled time, s", ylabel="latency, ms", yscale="log")
    over_time.set_title(f"{summary.asked:g}/s asked, {summary.achieved:.1f}/s achieved")
    answered = np.sort(_milliseconds(outcome))
    if len(answered):
        shares.plot(answered, np.arange(1, len(answered) + 1) / len(latency))
        for share, value in ((0.5, summary.p50), (0.95, summary.p95), (0.99, summary.p99)):
            if np.isfinite(value):
                shares.axvline(value, color="gray", linewidth=0.8)
                shares.text(value, 0.02, f" p{share * 100:.0f} {value:.1f} ms", rotation=90, va="bottom", fontsize=8)
        shares.set_xscale("log")
    shares.set(xlabel="latency, ms", ylabel="share of all requests answered so soon", ylim=(0, 1.02))
    FigureCanvasAgg(figure).print_png(str(path))


def _milliseconds(outcome: Outcome) -> np.ndarray:
    """[answered] float64."""
    return outcome.latency[~np.isnan(outcome.latency)] * 1000
