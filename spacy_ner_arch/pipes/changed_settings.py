"""Settings whose value in the config differs from the stored component."""

from collections.abc import Mapping, Sequence
from typing import Any

import srsly

from ..bridge.errors import ChangedSetting


def check_fixed(
    names: Sequence[str], stored: Mapping[str, Any], before: Mapping[str, Any], configured: Mapping[str, Any]
) -> None:
    """Raise ChangedSetting if a setting differs from the stored one and from the config of the training.

    names: names of the settings.
    stored: settings of a trained component. Added labels can have changed them since its training.
    before: settings in the config of its training.
    configured: settings in the config with which it is loaded.
    """
    for name in names:
        value = comparable(configured[name])
        if value not in (comparable(stored[name]), comparable(before.get(name))):
            raise ChangedSetting(name, repr(comparable(stored[name])), repr(value))


def find_changes(before: Mapping[str, Any], configured: Mapping[str, Any]) -> list[str]:
    """Names of the settings whose value in the config is not the one before; one that was not stored is the same."""
    return [name for name, value in configured.items() if comparable(before.get(name, value)) != comparable(value)]


def comparable(value: Any) -> Any:
    """A list sorted and without duplicates, since its order makes no difference, also in a dictionary; any other value
    as it is."""
    if isinstance(value, dict):
        return {key: comparable(each) for key, each in value.items()}
    return sorted({*map(str, value)}) if isinstance(value, list) else value


def as_stored(value: Any) -> Any:
    """A copy of a JSON value as it is read when it was stored: srsly reads 0.7 as 0.7000000000000001."""
    return srsly.json_loads(srsly.json_dumps(value))
