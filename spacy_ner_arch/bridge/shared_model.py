"""Models for components of other packages, such as `tok2vec` and `transformer`."""

import gc
import sys
from textwrap import shorten
from types import FrameType

from spacy.pipeline import Pipe
from thinc.api import Model
from thinc.model import InT, OutT

from .errors import ChangedSetting


class SharedModel(Model[InT, OutT]):
    """A thinc model whose loading errors name the component and the file."""

    def from_bytes(self, bytes_data: bytes) -> "SharedModel[InT, OutT]":
        collects = gc.isenabled()
        try:
            super().from_bytes(bytes_data)
            self.check_loaded()
        except ChangedSetting as error:
            raise error.of(*_loading()) from error
        except Exception as error:  # msgpack, json, torch and transformers raise errors of all kinds
            reason = shorten(f"{type(error).__name__}: {error}", 500)
            component, path = _loading()
            raise ValueError(f"{component}: {path} is damaged or does not fit its config ({reason})") from error
        finally:
            if collects:  # srsly turns the garbage collector off, and after an error does not turn it on again
                gc.enable()
        return self

    def check_loaded(self) -> None:
        """Raise an error if the loaded parts do not fit together. Subclasses override this method."""


def _loading() -> tuple[str, str]:
    """Component and file that are being loaded. spaCy does not pass them to the model; its stack frames contain them.

    Compiled code of spaCy has no frames, so for a component that is loaded on its own the names may be generic.
    """
    pipe, path = None, "its model"
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        names = frame.f_locals
        # The methods of spacy-transformers, and the functions by which spaCy loads the components of a pipeline.
        for owner, folder in (("self", "path"), ("proc", "p")):
            pipe = pipe or (names.get(owner) if isinstance(names.get(owner), Pipe) else None)
            if pipe is not None and names.get(owner) is pipe and folder in names:
                return getattr(pipe, "name", "a shared encoder"), f"{names[folder]}/model"
        frame = frame.f_back
    return getattr(pipe, "name", "a shared encoder"), path
