"""The pictures of the page."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .calibration import Calibration
from .svg import svg
from .thresholds import ThresholdCurve
from .training_log import TrainingLog
from .transitions import Transitions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 6.2
BLUE, ORANGE, GREEN, GREY = "#2563a8", "#c2600c", "#2c7a4b", "#8a8f98"
# Legends go where no curve can be.
ABOVE: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": 4}
# Confidences crowd near 1: finer steps of a threshold than this would not be seen.
STEP = 0.001
# Beyond this many tags the numbers in the cells of a heat map would be too small.
MOST_NUMBERED = 24


def reliability(result: Calibration) -> str:
    """Accuracy against confidence with 95 % intervals, and how many predictions there are of each confidence."""

    def draw(figure: "Figure") -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        used = result.counts > 0
        left, widths = result.edges[:-1][used], np.diff(result.edges)[used]
        accuracy, counts = result.accuracy[used], result.counts[used]
        upper.bar(left, accuracy, widths, align="edge", color=BLUE, alpha=0.35, edgecolor="white", label="accuracy")
        bottom, top = wilson(accuracy, counts)
        errors = np.stack([accuracy - bottom, top - accuracy]).clip(0)
        confidence = result.confidence[used]
        upper.errorbar(
            confidence, accuracy, errors, fmt="o", color=BLUE, markersize=4, elinewidth=1, label="95 % interval"
        )
        upper.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="perfectly calibrated")
        upper.set(ylabel="share of right entities", ylim=(0, 1.05), xlim=(0, 1))
        upper.legend(**ABOVE)
        bars = lower.bar(left, counts, widths, align="edge", color=GREY, edgecolor="white")
        lower.bar_label(bars, fontsize=7, padding=1)
        lower.set_yscale("log")
        lower.set(xlabel="confidence", ylabel="entities", ylim=(0.5, 6 * counts.max()))
        lower.yaxis.set_major_formatter("{x:.0f}")
        lower.minorticks_off()

    return svg("reliability", (WIDTH, 4.6), "Reliability diagram and histogram of confidences", draw)


def wilson(share: np.ndarray, counts: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Interval of a share that was observed in `counts` cases (Wilson 1927)."""
    centre = share + z**2 / (2 * counts)
    half = z * np.sqrt(share * (1 - share) / counts + z**2 / (4 * counts**2))
    return (centre - half) / (1 + z**2 / counts), (centre + half) / (1 + z**2 / counts)


def threshold_scores(curve: ThresholdCurve) -> str:
    """Precision, recall and F1 over the threshold."""
    _, shown = np.unique((curve.thresholds / STEP).astype(int), return_index=True)
    # A threshold between two confidences keeps what the upper one keeps.
    x = np.concatenate([[0.0], curve.thresholds[shown]])

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for name, values, colour in (
            ("precision", curve.precision, BLUE),
            ("recall", curve.recall, ORANGE),
            ("F1", curve.f1, GREEN),
        ):
            axes.step(x, np.concatenate([values[shown[:1]], values[shown]]), where="pre", color=colour, label=name)
        axes.set(xlabel="threshold on the confidence", xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.legend(**ABOVE)

    return svg("thresholds", (WIDTH, 3.2), "Precision, recall and F1 over a threshold on the confidence", draw)


def heat_map(learned: Transitions, name: str) -> str:
    """Transition scores: red is favoured, blue avoided, hatched forbidden."""
    size = len(learned.tags) + 1

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        limit = np.nanmax(np.abs(learned.scores))
        axes.patch.set(hatch="////", facecolor="white", edgecolor="#c4c8cf")
        mesh = axes.pcolormesh(np.ma.masked_invalid(learned.scores), cmap="RdBu_r", vmin=-limit, vmax=limit)
        if size <= MOST_NUMBERED:
            digits = 1 if limit >= 1 else 2
            for (row, column), value in np.ndenumerate(learned.scores):
                if not np.isnan(value):
                    colour = "white" if abs(value) > 0.65 * limit else "black"
                    text = f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no -0.0
                    axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=6.5, color=colour)
        ticks = np.arange(size) + 0.5
        axes.set_xticks(ticks, [*learned.tags, "end"], rotation=90)
        axes.set_yticks(ticks, ["start", *learned.tags])
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="to", ylabel="from", aspect="equal")
        axes.invert_yaxis()
        bar = figure.colorbar(mesh, ax=axes, shrink=0.5, label="score")
        assert bar.solids is not None
        # Not the bitmap that matplotlib makes of a colour bar; edges close the seams between its steps.
        bar.solids.set(rasterized=False, edgecolor="face")

    inches = 0.31 * size + 1.4
    return svg(name, (inches + 0.8, inches), f"Transition scores of {learned.component}", draw)


def training(log: TrainingLog) -> str:
    """Losses and scores over the steps."""

    def draw(figure: "Figure") -> None:
        upper, lower = figure.subplots(2, 1, sharex=True)
        for name, values in log.losses:
            upper.plot(log.steps, values, marker=".", markersize=4, label=name)
        upper.set(ylabel="loss")
        if log.losses:
            upper.legend(**ABOVE)
        for name, values in log.scores:
            if name != "speed":
                # Wide and pale: often one of them is the score itself, which lies upon it.
                lower.plot(log.steps, np.array(values) / 100, linewidth=3, alpha=0.5, label=name)
        lower.plot(log.steps, log.score, color="black", linewidth=1, marker=".", markersize=4, label="score")
        lower.set(xlabel="step", ylabel="score", ylim=(0, 1.02))
        lower.legend(**ABOVE)
        for axes in (upper, lower):
            axes.grid(alpha=0.3)

    return svg("training", (WIDTH, 4.6), "Loss and score over the steps of the training", draw)
