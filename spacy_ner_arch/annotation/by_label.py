"""Settings by label: a dictionary, or a list of [label, value] for labels that a config cannot hold as keys."""

import configparser
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from thinc.api import Config

Value = TypeVar("Value")
# As in a config: rows are [label, value].
ByLabel = Mapping[str, Any] | Sequence[Sequence[Any]]


def by_label(setting: str, given: ByLabel, as_value: Callable[[Any], Value]) -> dict[str, Value]:
    """The values of a setting by label.

    as_value: function from the value in the config to the value; may raise ValueError or TypeError.
    Raises ValueError for bad values, for keys that change when a config is stored and read, such as `per:title`, and
    for labels that a list names twice.
    """
    if isinstance(given, Mapping):
        if lost := [label for label in given if not _can_be_key(label)]:
            example = json.dumps([[lost[0], given[lost[0]]]], ensure_ascii=False)
            raise ValueError(
                f"{setting} has the keys {lost}, which cannot be stored in a config; give all of {setting} as a list "
                f"of [label, value], such as {example}"
            )
        given = list(given.items())
    values: dict[str, Value] = {}
    for row in given:
        if len(row) != 2 or not isinstance(row[0], str):
            raise ValueError(f"{setting} has {row!r}; give rows of [label, value]")
        label, value = row
        if label in values:
            raise ValueError(f"{setting} names the label {label!r} twice")
        try:
            values[label] = as_value(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{setting} of {label!r}: {error}") from error
    return values


def _can_be_key(label: str) -> bool:
    """Whether a config has the same key after it was stored and read."""
    config = {"section": {label: 0}}
    try:
        return bool(Config().from_str(Config(config).to_str()) == config)
    except (ValueError, configparser.Error):
        return False
