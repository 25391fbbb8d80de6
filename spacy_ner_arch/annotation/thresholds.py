"""Thresholds of probabilities, as what is decoded compares them."""

import math


def log_odds(threshold: float) -> float:
    """Log odds of a probability threshold from 0 to 1; 0 and 1 become very large numbers."""
    return math.log(max(threshold, 1e-30)) - math.log(max(1 - threshold, 1e-30))
