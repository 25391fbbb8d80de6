"""Pure torch: encoders and heads as ordinary modules. Nothing here knows spaCy or thinc."""
