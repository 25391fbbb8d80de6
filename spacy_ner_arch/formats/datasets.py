"""Format `datasets`: JSON, Parquet and Arrow files of Hugging Face with tokens and tags."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, Field, StrictInt, StrictStr, ValidationError, model_validator

from .arrow_files import ARROW, PARQUET, open_arrow, read_rows
from .counts import Note, ReadReport
from .json_spans import Token
from .lines import FormatError, Line
from .records import Source, parse_object, validate
from .sentence import Sentence
from .source_tags import MISSING_TAG, Tag
from .tagged_tokens import TaggedTokens, read_tag, tagged_sentences
from .texts import EMPTY

# Tag number that loss functions of torch ignore.
IGNORED = -100

REMEDY = (
    'write {"tokens": ["Ada", "left"], "ner_tags": ["B-PER", "O"]} for each sentence, as JSON or Parquet; for numbers, '
    "give the names of the tags with --tag-names"
)
NAMES_REMEDY = (
    "give the names of the tags in the order of their numbers, such as --tag-names O,B-PER,I-PER, or put the "
    "dataset_info.json of the data set beside the file"
)


class TaggedRow(Source):
    """A row of a data set."""

    tokens: list[Token] = Field(validation_alias=AliasChoices("tokens", "words"))
    tags: list[StrictInt | StrictStr] = Field(validation_alias=AliasChoices("ner_tags", "ner", "tags", "labels"))

    @model_validator(mode="after")
    def check_length(self) -> "TaggedRow":
        """Check the number of tags."""
        if len(self.tokens) != len(self.tags):
            raise ValueError(f"{len(self.tags)} tags for {len(self.tokens)} tokens")
        return self


def read_datasets(
    path: str | Path, report: ReadReport, *, tag_names: Sequence[str] = (), on_error: str = "raise"
) -> Iterator[list[Sentence]]:
    """Read sentences with "tokens" and "ner_tags", as Hugging Face datasets have them: JSON, Parquet or Arrow.

    Tags are strings in any scheme that `source_tags.py` knows, or numbers. The names of the numbers are those that are
    given, those in a Parquet or Arrow file, or those of a file dataset_info.json beside it. The number -100 and the tag
    - mean that a token is not annotated. Other columns are counted. Each row is a document of one sentence.

    tag_names: names of the tags in the order of their numbers.
    Other arguments, results and errors are those of all readers, see `readers.py`. The extra `parquet` reads Parquet
    and Arrow files; without it, ImportError is raised.
    """
    path = Path(path)
    names: Sequence[str] | None = None
    found = []
    for line, columns in read_rows(path, REMEDY):
        with report.skipping(on_error):
            value = parse_object(line, REMEDY) if columns is None else columns
            row = validate(TaggedRow, value, line, REMEDY)
            if names is None:
                names = tag_names or _find_names(path)
            tags = [_find_tag(tag, names, line) for tag in row.tags]
            report.unread_keys.update(value.keys() - TaggedRow.known_keys())
            if tags:
                found.append(TaggedTokens([line] * len(tags), row.tokens, tags))
            else:
                report.note(Note(line, EMPTY))
    yield from tagged_sentences(found, report)


def _find_tag(tag: int | str, names: Sequence[str], line: Line) -> Tag:
    if tag == IGNORED:
        return MISSING_TAG
    if isinstance(tag, int) and not names:
        raise line.error(f"the tag {tag} is a number without a name", NAMES_REMEDY)
    if isinstance(tag, int):
        if not 0 <= tag < len(names):
            raise line.error(f"there is no name for the tag {tag}, only for {len(names)} tags from 0", NAMES_REMEDY)
        tag = names[tag]
    return read_tag(tag, line)


def _find_names(path: Path) -> Sequence[str]:
    """Names of the tags in the description of a data set, in an Arrow or Parquet file or beside a file."""
    beside = path.with_name("dataset_info.json")
    descriptions: list[bytes] = [beside.read_bytes()] if beside.is_file() else []
    if path.suffix in (PARQUET, ARROW):
        with open_arrow(path) as (schema, _):
            descriptions.insert(0, (schema.metadata or {}).get(b"huggingface", b"{}"))
    keys = TaggedRow.model_fields["tags"].validation_alias
    assert isinstance(keys, AliasChoices)
    for description in descriptions:
        try:
            features = _Description.model_validate_json(description).all_features
        except ValidationError as error:
            reason = f"the description of the data set is not one of Hugging Face: {error.errors()[0]['msg']}"
            raise FormatError(path, 1, "", reason, NAMES_REMEDY) from error
        for key in keys.choices:
            names = _find_class_names(features.get(str(key)))
            if names:
                return names
    return ()


def _find_class_names(feature: Any) -> list[str]:
    """The names of the classes of a column, or of the items of its lists; none for a column of another type.

    feature: {"names": [...]} for classes; {"feature": {...}}, or in older data sets [{...}], for lists.
    """
    if isinstance(feature, list) and len(feature) == 1:
        return _find_class_names(feature[0])
    if not isinstance(feature, dict):
        return []
    names = feature.get("names")
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return names
    return _find_class_names(feature.get("feature"))


class _Description(BaseModel):
    """The description of a data set; in a file of rows, it is under the key info.

    The types of columns are not checked: a nested column has a dictionary or a list instead of a type.
    """

    features: dict[str, Any] | None = None
    info: "_Description | None" = None

    @property
    def all_features(self) -> dict[str, Any]:
        return self.features or (self.info.all_features if self.info else {})
