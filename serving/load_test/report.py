"""What a load test found: figures, a histogram as text, a picture of the latency over time."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np

from serving.load_test.runner import Outcome

_BAR = 40


@dataclasses.dataclass(frozen=True)
class Summary:
    """Figures of a load test; latencies are of the requests that were answered, in milliseconds.

    Attributes:
        asked, achieved: requests a second; achieved are those with an answer.
        p50, p95, p99, longest: latencies from the scheduled time, NaN without any answer.
        answered: how many requests had an answer with outputs.
        errors: what went wrong -> how often.
    """

    asked: float
    achieved: float
    p50: float
    p95: float
    p99: float
    longest: float
    answered: int
    errors: dict[str, int]

    def text(self) -> str:
        """Several lines for a person."""
        failed = sum(self.errors.values())
        lines = [
            f"requests    {self.answered + failed} sent or due, {self.answered} answered, {failed} failed",
            f"throughput  {self.asked:.1f}/s asked, {self.achieved:.1f}/s achieved",
            f"latency     p50 {self.p50:.1f} ms, p95 {self.p95:.1f} ms, p99 {self.p99:.1f} ms, "
            f"max {self.longest:.1f} ms, from the scheduled time",
        ]
        lines += [f"error       {count} x {kind}" for kind, count in sorted(self.errors.items())]
        return "\n".join(lines)


def summarize(outcome: Outcome) -> Summary:
    """The figures of a load test."""
    answered = _milliseconds(outcome)
    p50, p95, p99, longest = np.percentile(answered, [50, 95, 99, 100]) if len(answered) else [np.nan] * 4
    return Summary(
        asked=outcome.load.rate,
        # The schedule ends one interval after its last request; a server that lags behind takes longer.
        achieved=len(answered) / max(outcome.elapsed, outcome.load.seconds),
        p50=float(p50),
        p95=float(p95),
        p99=float(p99),
        longest=float(longest),
        answered=len(answered),
        errors=dict(Counter(error for error in outcome.errors if error)),
    )


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
        shares.plot(answered, np.arange(1, len(answered) + 1) / len(answered))
        for share, value in ((0.5, summary.p50), (0.95, summary.p95), (0.99, summary.p99)):
            shares.axvline(value, color="gray", linewidth=0.8)
            shares.text(value, 0.02, f" p{share * 100:.0f} {value:.1f} ms", rotation=90, va="bottom", fontsize=8)
        shares.set_xscale("log")
    shares.set(xlabel="latency, ms", ylabel="share of the answers at most so late", ylim=(0, 1.02))
    FigureCanvasAgg(figure).print_png(str(path))


def _milliseconds(outcome: Outcome) -> np.ndarray:
    """[answered] float64."""
    return outcome.latency[~np.isnan(outcome.latency)] * 1000
