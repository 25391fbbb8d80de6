"""Extension attributes of spaCy's classes, such as `doc._.relations`."""

import warnings
from collections.abc import Callable
from typing import Any


def register(owner: Any, name: str, getter: Callable, setter: Callable) -> None:
    """Register an attribute. If the name is taken, warn and keep the other attribute.

    A getter with the same name in the same module is from before the module was reloaded. It is replaced.

    owner: Doc, Span or Token.
    """
    known = owner.get_extension(name)[2] if owner.has_extension(name) else None
    if not owner.has_extension(name) or (known is not None and origin(known) == origin(getter)):
        owner.set_extension(name, getter=getter, setter=setter, force=True)
    else:
        warnings.warn(
            f"{owner.__name__}._.{name} was registered before spacy_ner_arch was imported, and may not show what its "
            f"components set: do not register the name, or call {getter.__module__}.{getter.__name__}",
            stacklevel=2,
        )


def origin(function: Callable) -> tuple[str | None, str | None]:
    """Module and name of a function, where it has these."""
    return getattr(function, "__module__", None), getattr(function, "__qualname__", None)
