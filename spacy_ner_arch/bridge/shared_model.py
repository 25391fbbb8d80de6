"""Models for components of other packages, such as `tok2vec` and `transformer`."""

import gc
from textwrap import shorten

from thinc.api import Model
from thinc.model import InT, OutT

from .errors import ChangedSetting


class SharedModel(Model[InT, OutT]):
    """A thinc model whose loading errors name its architecture: spaCy does not tell a model its component or file.

    A subclass sets `architecture`, the registered name.
    """

    architecture: str

    def from_bytes(self, bytes_data: bytes) -> "SharedModel[InT, OutT]":
        collects = gc.isenabled()
        try:
            super().from_bytes(bytes_data)
            self.check_loaded()
        except ChangedSetting as error:
            raise error.of(self.architecture) from error
        except Exception as error:  # msgpack, json, torch and transformers raise errors of all kinds
            reason = shorten(f"{type(error).__name__}: {error}", 500)
            raise ValueError(
                f"{self.architecture}: the stored model of a component with this architecture is damaged or does not "
                f"fit its config ({reason}); train or download it again"
            ) from error
        finally:
            if collects:  # srsly turns the garbage collector off, and after an error does not turn it on again
                gc.enable()
        return self

    def check_loaded(self) -> None:
        """Raise an error if the loaded parts do not fit together. Subclasses override this method."""
