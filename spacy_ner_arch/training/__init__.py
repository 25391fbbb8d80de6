"""Stages, loss weights, calibration, corpus reader and logger; checkpoints and several processes."""
