"""Settings in the `cfg` of a component that cannot be changed after training."""

from collections.abc import Mapping, Sequence
from typing import Any

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


def comparable(value: Any) -> Any:
    """A list sorted and without duplicates, since its order makes no difference; any other value as it is."""
    return sorted({*map(str, value)}) if isinstance(value, list) else value
