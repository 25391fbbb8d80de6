"""Loading of a component, and settings whose value in the config differs from the stored component."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import srsly
from spacy.pipeline import TrainablePipe

from ..bridge.errors import ChangedSetting


class StoredPipe(TrainablePipe):
    """Base class of `TorchPipe`: compares the stored settings with those of the config.

    cfg: settings that are stored with the component, as JSON values.
    """

    # Names in `cfg` of the settings that cannot be changed after training.
    fixed_settings: tuple[str, ...] = ()

    def __init__(self, **cfg: Any) -> None:
        # Settings as the config has them; those in `cfg` can change later.
        self.configured = as_stored(cfg)
        self.cfg: dict[str, Any] = {**cfg, "labels": [], "configured": self.configured}

    def from_disk(self, path: Any, *, exclude: Iterable[str] = ()) -> "StoredPipe":
        """Load the component. Nothing in the folder is executed. Errors name the component and the folder."""
        with self._loading(exclude, path):
            super().from_disk(path, exclude=exclude)
        return self

    def from_bytes(self, data: bytes, *, exclude: Iterable[str] = ()) -> "StoredPipe":
        """Load the component. Errors name the component."""
        with self._loading(exclude):
            super().from_bytes(data, exclude=exclude)
        return self

    def change_setting(self, name: str, value: Any) -> None:
        """Change a setting of a stored component to its new value in the config."""
        self.cfg[name] = as_stored(value)

    @contextmanager
    def _loading(self, exclude: Iterable[str], path: Any = None) -> Iterator[None]:
        """After the block has loaded the component, change its settings to those of the config, and check it.

        exclude: names of the parts that are not loaded.
        path: folder of the component, for errors; None if it is loaded from bytes.
        """
        self.cfg["configured"] = None
        try:
            yield
            self._change_settings()
            self._check_hyperparameters(exclude)
        except ChangedSetting as error:
            raise error.of(self.name, path) from error
        except ValueError as error:
            if path is None:
                raise ValueError(f"{self.name}: {error}") from error
            raise ValueError(
                f"{self.name}: {path} is damaged or does not fit its config ({error}); train or download it again"
            ) from error
        if self.labels and self.shim.is_initialized:
            self.check_named_labels(self.labels)

    def _change_settings(self) -> None:
        """Change the settings whose value in the config differs from the one with which the component was stored.

        Raises ChangedSetting for a setting that cannot be changed after training, unless the component itself has the
        value of the config: labels that were added after training can have changed it.
        """
        stored_config = self.cfg.get("configured")
        before = stored_config if isinstance(stored_config, dict) else {}
        self.cfg["configured"] = self.configured
        fixed = self.fixed_settings if self.shim.is_initialized else ()
        for name in fixed:
            value, stored = comparable(self.configured[name]), comparable(self.cfg[name])
            if value not in (stored, comparable(before.get(name))):
                raise ChangedSetting(name, repr(stored), repr(value))
        for name, value in self.configured.items():
            # One that was not stored counts as unchanged.
            if name not in fixed and comparable(before.get(name, value)) != comparable(value):
                self.change_setting(name, value)

    def _check_hyperparameters(self, exclude: Iterable[str]) -> None:
        """Raise ValueError if the labels stored with the model differ from those of the component.

        exclude: names of the parts that were not loaded.
        """
        if not self.shim.is_initialized or {"model", "cfg"} & set(exclude):
            return
        stored = {key: value for key, value in self.shim.cfg.items() if key != "input_size"}
        expected = self.hyperparameters()
        if stored != expected:
            raise ValueError(f"the model was stored with {stored}, but the component has {expected}")


def comparable(value: Any) -> Any:
    """Sort lists, also in a dictionary, and remove duplicates: the order of a setting makes no difference. Other values
    are returned unchanged."""
    if isinstance(value, dict):
        return {key: comparable(each) for key, each in value.items()}
    return sorted({*map(str, value)}) if isinstance(value, list) else value


def as_stored(value: Any) -> Any:
    """A JSON value after writing and reading it with srsly, which reads 0.7 as 0.7000000000000001."""
    return srsly.json_loads(srsly.json_dumps(value))
