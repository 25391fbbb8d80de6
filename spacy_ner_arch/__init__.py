"""Neural architectures for named entity recognition and relation extraction, as components of spaCy.

Nothing is imported here: spaCy finds the registered functions by the entry points in setup.py and loads each when a
config names it.
"""

__version__ = "0.1.0"
