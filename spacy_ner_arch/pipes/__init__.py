"""The spaCy components. No module imports torch here, since spaCy imports them at every start."""
