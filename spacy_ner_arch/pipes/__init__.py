"""The spaCy components. They see models only as thinc models: no torch here, for spaCy imports this at every start."""
