"""What a pipeline is worth on a gold corpus: scores as tables, and a page that shows what lies behind them."""

from ..tables import Row, entity_table, relation_table, span_tables
from .calibration import Calibration, calibration
from .confusion import Confusion, confusion
from .page import write_report
from .thresholds import Point, ThresholdCurve, threshold_curve
from .training_log import TrainingLog, read_log

__all__ = [
    "Calibration",
    "Confusion",
    "Point",
    "Row",
    "ThresholdCurve",
    "TrainingLog",
    "calibration",
    "confusion",
    "entity_table",
    "span_tables",
    "read_log",
    "relation_table",
    "threshold_curve",
    "write_report",
]
