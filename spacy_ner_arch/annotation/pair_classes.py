"""Names of the classes of pairs."""

# Suffix of classes whose head is the second entity of the pair.
INVERSE = "^-1"
