"""Settings in the `cfg` of a component that cannot be changed after training."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..bridge.errors import ChangedSetting


def fixed_values(cfg: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The values of these settings. Lists are sorted, without duplicates: their order makes no difference."""
    values = {name: cfg[name] for name in names}
    return {name: sorted({*map(str, value)}) if isinstance(value, list) else value for name, value in values.items()}


def check_fixed(stored: Mapping[str, Any], before: Any, configured: Mapping[str, Any]) -> None:
    """Raise ChangedSetting if a setting differs from the stored one and from the config of the training.

    stored: values of a trained component. Added labels can have changed them since its training.
    before: values in the config of its training, from a file, so it can be anything.
    configured: values in the config with which it is loaded.
    """
    for name, value in configured.items():
        if value not in (stored[name], before.get(name) if isinstance(before, dict) else None):
            raise ChangedSetting(name, repr(stored[name]), repr(value))
