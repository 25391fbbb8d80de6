"""Errors of models, to which a component adds its name. Components import this module, so it does not import torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class ChangedSetting(ValueError):
    """A setting that cannot be changed after training differs between a stored pipeline and its config.

    setting: name of the setting in the message.
    stored, configured: its two values, as the message shows them.
    component, path: name and folder or file of the component; None if they are not known yet.
    """

    def __init__(
        self, setting: str, stored: str, configured: str, component: str | None = None, path: Any = None
    ) -> None:
        super().__init__(setting, stored, configured, component, path)  # all of them, so that it can be pickled

    def of(self, component: str, path: Any = None) -> "ChangedSetting":
        """The same error for a component and its folder or file."""
        setting, stored, configured, *_ = self.args
        return ChangedSetting(setting, stored, configured, component, path)

    def __str__(self) -> str:
        setting, stored, configured, component, path = self.args
        start = "" if component is None else f"{component}: "
        place = "" if path is None else f" in {path}"
        return (
            f"{start}{setting} cannot be changed after training: it was {stored}{place}, and is {configured} in the "
            "config. Set it back, or train a new pipeline"
        )


@contextmanager
def named_errors(name: str) -> Iterator[None]:
    """Prefix the message of a ValueError that is raised in the block with the name of the component."""
    try:
        yield
    except ChangedSetting as error:
        raise error.of(name) from error
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
