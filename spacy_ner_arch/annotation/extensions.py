"""Extension attributes of spaCy's classes, such as `doc._.relations`."""

import warnings
from collections.abc import Callable
from typing import Any


def register(owner: Any, name: str, getter: Callable, setter: Callable) -> None:
    """Register an attribute. If the name is taken, warn, and leave the other attribute as it is.

    owner: Doc, Span or Token.
    """
    if not owner.has_extension(name):
        owner.set_extension(name, getter=getter, setter=setter)
    elif owner.get_extension(name)[2] is not getter:
        warnings.warn(
            f"{owner.__name__}._.{name} was registered before spacy_ner_arch was imported, and may not show what its "
            f"components set: do not register the name, or call {getter.__module__}.{getter.__name__}",
            stacklevel=2,
        )
