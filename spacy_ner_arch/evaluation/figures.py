"""Figures of the report, drawn by matplotlib as SVG elements."""

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from .measures import Calibration, ThresholdCurve
from .training_log import TrainingLog

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Replaced by the text color of the page, which differs between light and dark mode.
INK = "#010203"
BLUE, ORANGE, GREEN, GREY = "#4285c4", "#d9822b", "#3f9f63", "#8a8f98"
SIZE = (5.4, 3.6)  # inches
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # the name of a component may contain dollar signs
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}
ABOVE: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": 4}


def reliability(result: Calibration, name: str) -> Markup:
    """Draw accuracy against probability, and the number of predictions in each bin."""

    def draw(figure: "Figure") -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        bars: dict[str, Any] = {"width": result.width, "align": "edge", "edgecolor": "none"}
        upper.bar(result.lower, result.accuracy, color=BLUE, alpha=0.35, label="accuracy of the bin", **bars)
        upper.plot(result.confidence, result.accuracy, "o", color=BLUE, markersize=4, label="mean probability")
        upper.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="perfectly calibrated")
        upper.set(ylabel="share of right predictions", ylim=(0, 1.02), xlim=(0, 1))
        upper.legend(**ABOVE)
        counted = lower.bar(result.lower, result.counts, color=GREY, **bars)
        lower.bar_label(counted, fontsize=7, padding=1)
        lower.set_yscale("log")
        lower.set(xlabel="probability", ylabel="predictions", ylim=(0.5, 8 * result.counts.max()))
        lower.yaxis.set_major_formatter("{x:.0f}")
        lower.minorticks_off()

    return svg(name, "Reliability diagram and histogram of the probabilities", draw)


def threshold_scores(curve: ThresholdCurve, name: str) -> Markup:
    """Draw precision, recall and F1 by threshold."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for label, values, color in (
            ("precision", curve.precision, BLUE),
            ("recall", curve.recall, ORANGE),
            ("F1", curve.f1, GREEN),
        ):
            axes.plot([0.0, *curve.thresholds], [values[0], *values], color=color, label=label)
        axes.set(xlabel="threshold on the probability", xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.legend(**ABOVE)

    return svg(name, "Precision, recall and F1 by threshold on the probability", draw)


def training_curve(log: TrainingLog, name: str) -> Markup:
    """Draw losses and scores by step."""

    def draw(figure: "Figure") -> None:
        left, right = figure.subplots(1, 2)
        for label, values in log.losses.items():
            left.plot(log.steps, values, marker=".", markersize=4, label=label)
        left.set(xlabel="step", ylabel="loss")
        for label, values in log.scores.items():
            if label != "speed" and not label.endswith(("_p", "_r")):
                right.plot(log.steps, np.array(values) / 100, linewidth=3, alpha=0.5, label=label)
        right.plot(log.steps, log.score, color=INK, linewidth=1, marker=".", markersize=4, label="score")
        right.set(xlabel="step", ylabel="score", ylim=(0, 1.02))
        for axes in (left, right):
            axes.grid(alpha=0.3)
            if axes.lines:
                axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3)

    return svg(name, "Losses and scores by step of the training", draw, (2 * SIZE[0], SIZE[1] + 0.6))


def svg(name: str, description: str, draw: Callable[["Figure"], None], size: tuple[float, float] = SIZE) -> Markup:
    """Return a figure as an SVG element. The same figure always gives the same text.

    name: prefix of the ids in it; different for each figure of a page.
    description: text for screen readers.
    draw: draws on an empty figure.
    size: width and height in inches.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # ignore a matplotlibrc of the user
        matplotlib.rcParams.update({**SETTINGS, "svg.hashsalt": name})
        figure = Figure(figsize=size, layout="constrained")
        canvas = FigureCanvasSVG(figure)
        draw(figure)
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    element = re.sub(r'(\bid="|\burl\(#|href="#)', rf"\g<1>{name}-", text[text.index("<svg") :])
    element = element.replace(INK, "currentColor")
    return Markup(element.replace("<svg", f'<svg role="img" aria-label="{description}"', 1))
