"""The sections of the page that are mostly pictures, each a function that returns html."""

from collections.abc import Sequence

from spacy.language import Language
from spacy.training import Example

from . import pictures
from .calibration import calibration
from .markup import facts, figure, paragraph, percent, table
from .thresholds import Point, threshold_curve
from .training_log import TrainingLog
from .transitions import transitions

TARGETS = (0.90, 0.95, 0.99)
NO_SCORE = paragraph("No predicted entity has a confidence: the component that sets them gives none.")


def confidence(examples: Sequence[Example]) -> str:
    """Calibration of the confidences, and what a threshold on them does."""
    result = calibration(examples)
    without = f"{result.unscored} entities without a confidence are left out. " if result.unscored else ""
    if not result.counts.sum():
        return NO_SCORE if result.unscored else paragraph("There is no predicted entity.")
    equal = calibration(examples, equal_mass=True)
    numbers = facts(
        [
            ("expected calibration error", f"{result.ece:.4f} ({len(result.counts)} bins of equal width)"),
            ("the same, of equal mass", f"{equal.ece:.4f} ({len(equal.counts)} bins)"),
            ("Brier score", f"{result.brier:.4f}"),
            ("entities with a confidence", f"{result.counts.sum()}"),
        ]
    )
    text = (
        f"{without}The confidence of an entity is ent._.score. It is calibrated if of the entities with a confidence "
        "of 0.8 just 80 % are right; the calibration error is how far it is from that, on average over the entities, "
        "and 0 at best. Bars below the diagonal: too sure of itself."
    )
    return paragraph(text) + numbers + figure(pictures.reliability(result)) + thresholds(examples)


def thresholds(examples: Sequence[Example]) -> str:
    """Thresholds to choose from."""
    curve = threshold_curve(examples)
    choices: list[tuple[str, Point | None]] = [("all entities", curve.point(0)), ("best F1", curve.best())]
    choices += [(f"precision {target:.2f}", curve.at_precision(target)) for target in TARGETS]
    rows = [(name, *describe(point)) for name, point in choices]
    text = (
        "Entities below a threshold can be dropped, for more precision and less recall. For each target the lowest "
        "threshold that reaches it on this corpus. Choose it on a development corpus: on the corpus on which it was "
        "chosen it looks better than it is."
    )
    code = "doc.ents = [ent for ent in doc.ents if ent._.score is None or ent._.score &gt;= threshold]"
    header = ("", "threshold", "precision", "recall", "F1", "kept")
    return (
        f"<h3>Thresholds</h3>{paragraph(text)}{table(header, rows)}<p><code>{code}</code></p>"
        f"{figure(pictures.threshold_scores(curve))}"
    )


def describe(point: Point | None) -> tuple[str, ...]:
    """The cells of a row of thresholds."""
    if point is None:
        return ("not reached", "", "", "", "")
    return (f"{point.threshold:.16g}", *(percent(value) for value in point[1:4]), str(point.kept))


def learned(nlp: Language) -> str:
    """Heat maps of the CRFs' transitions."""
    found = transitions(nlp)
    if not found:
        return paragraph("No component has learned transitions: there is no CRF, or a softmax, which has none.")
    text = (
        "What the CRF adds to the score of a tag sequence for each step from one tag (row) to the next (column). Red "
        "steps are favoured, blue ones avoided, hatched ones forbidden by the tag scheme. Only differences within what "
        "competes count."
    )
    heat_maps = [
        figure(pictures.heat_map(one, f"transitions-{i}"), one.component, wide=True) for i, one in enumerate(found)
    ]
    return paragraph(text) + "".join(heat_maps)


def training(log: TrainingLog) -> str:
    """Losses and scores of the training."""
    best = max(range(len(log.steps)), key=lambda i: log.score[i])
    text = f"{len(log.steps)} evaluations; best score {log.score[best]:.4g}, first at step {log.steps[best]}."
    return paragraph(text) + figure(pictures.training(log))
