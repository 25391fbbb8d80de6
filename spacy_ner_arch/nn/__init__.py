"""Encoders and heads as ordinary torch modules, and some of them in NumPy for exported pipelines.

Nothing here knows spaCy or thinc.
"""
