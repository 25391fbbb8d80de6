"""Pictures drawn by matplotlib, as SVG to put into a page."""

import io
import re
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    # A label may have dollar signs.
    "text.parse_math": False,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "hatch.linewidth": 0.4,
}


def require_matplotlib() -> None:
    """Raises an ImportError that says what to install if matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise ImportError('the report needs matplotlib: pip install "spacy-ner-arch[viz]"') from error


def svg(name: str, size: tuple[float, float], alt: str, draw: Callable[["Figure"], None]) -> str:
    """A picture as an svg element; the same picture is always the same string.

    name: different for each picture of a page, for the ids in it.
    size: in inches.
    alt: what a screen reader says.
    draw: puts the content onto an empty figure.
    """
    require_matplotlib()
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with matplotlib.rc_context():
        # Not what a matplotlibrc of the user says.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**SETTINGS, "svg.hashsalt": name})
        figure = Figure(figsize=size, layout="constrained")
        canvas = FigureCanvasSVG(figure)
        draw(figure)
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    element = re.sub(r'(\bid="|\burl\(#|href="#)', rf"\g<1>{name}-", text[text.index("<svg") :])
    return element.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1)
