"""The models that a config names."""
