"""The spaCy components. These modules do not import torch, since spaCy imports them at every start."""
