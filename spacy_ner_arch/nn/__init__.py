"""Encoders and heads as plain torch modules, and some of them in NumPy for exported pipelines.

Nothing here imports spaCy or thinc.
"""
