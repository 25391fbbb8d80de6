"""Predictions for inputs of any size: records in, shards out."""
