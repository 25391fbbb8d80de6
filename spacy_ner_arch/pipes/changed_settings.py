"""Settings whose value in the config differs from the stored component."""

from collections.abc import Mapping, Sequence
from typing import Any

import srsly

from ..bridge.errors import ChangedSetting


def check_fixed(
    names: Sequence[str], stored: Mapping[str, Any], before: Mapping[str, Any], configured: Mapping[str, Any]
) -> None:
    """Raise ChangedSetting if a setting differs from both its stored value and its value in the config of the training.

    names: names of the settings.
    stored: settings of a trained component. Added labels can have changed them since its training.
    before: settings in the config with which the component was trained.
    configured: settings in the config with which the component is loaded.
    """
    for name in names:
        value = comparable(configured[name])
        if value not in (comparable(stored[name]), comparable(before.get(name))):
            raise ChangedSetting(name, repr(comparable(stored[name])), repr(value))


def find_changes(before: Mapping[str, Any], configured: Mapping[str, Any]) -> list[str]:
    """Names of the settings whose value in the config has changed; one that was not stored counts as unchanged."""
    return [name for name, value in configured.items() if comparable(before.get(name, value)) != comparable(value)]


def comparable(value: Any) -> Any:
    """Sort lists, also in a dictionary, and remove duplicates: the order of a setting makes no difference. Other values
    are returned unchanged."""
    if isinstance(value, dict):
        return {key: comparable(each) for key, each in value.items()}
    return sorted({*map(str, value)}) if isinstance(value, list) else value


def as_stored(value: Any) -> Any:
    """A JSON value after writing and reading it with srsly, which reads 0.7 as 0.7000000000000001."""
    return srsly.json_loads(srsly.json_dumps(value))
