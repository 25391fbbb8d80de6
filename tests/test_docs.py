"""README.md and docs/: links, code blocks, commands and the API page agree with the code."""

import importlib
import inspect
import json
import re
import shlex
from collections.abc import Iterator
from importlib.metadata import EntryPoint, distribution
from pathlib import Path
from typing import Any

import pytest
import spacy
import srsly
import typer
from conftest import TRAIN, entities, make_examples, train
from spacy.language import Language
from spacy.tokens import Doc
from spacy.util import registry
from thinc.api import Config

from spacy_ner_arch.cli.app import app

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "assets" / "README.md", *DOCS]
COMMANDS = typer.main.get_command(app).commands

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf8"), re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_every_link_has_a_target(page: Path) -> None:
    for path, anchor in re.findall(r"\]\((?!https?:)([\w./-]*)(?:#([\w-]+))?\)", page.read_text(encoding="utf8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@each_page
def test_python_blocks_compile(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")


@each_page
def test_json_blocks_are_json(page: Path) -> None:
    for block in blocks(page, "json"):
        assert json.loads(block)


def registered(config: dict) -> Iterator[tuple[str, str, set[str]]]:
    """Registry, name and arguments of every registered function in a config."""
    for value in config.values():
        if isinstance(value, dict):
            name = next((key for key in value if key.startswith("@")), None)
            if name:
                yield name[1:], value[name], set(value) - {name}
            yield from registered(value)


@each_page
def test_ini_blocks_name_functions_and_arguments_that_exist(page: Path) -> None:
    for block in blocks(page, "ini"):
        # Values of other sections than those shown are replaced, and a shown section may lack its parents.
        known = set(re.findall(r"^\[(.*)\]$", block, re.MULTILINE))
        parents = {name.rsplit(".", depth)[0] for name in known for depth in range(name.count(".") + 1)} - known
        text = "".join(f"[{name}]\n" for name in sorted(parents)) + block
        config = Config().from_str(re.sub(r"\$\{[\w.]+\}", "96", text))
        of_user = "\n".join(blocks(page, "python"))
        for function_registry, name, arguments in registered(config):
            if f'"{name}"' in of_user:
                continue
            function = registry.get(function_registry, name)
            parameters = inspect.signature(function).parameters
            assert arguments <= set(parameters), name
            # A shown batcher takes the place of another, whose settings spaCy does not keep.
            required = {key for key, value in parameters.items() if value.default is value.empty}
            assert function_registry != "batchers" or required <= arguments, name


def test_the_encoder_of_the_docs_learns() -> None:
    page = ROOT / "docs" / "training.md"
    (code,) = (block for block in blocks(page, "python") if "SelfAttention" in block)
    (config,) = (block for block in blocks(page, "ini") if "SelfAttention" in block)
    exec(compile(code, page.name, "exec"), {"__name__": "encoders"})
    model = Config().from_str(config.replace("components.sequence_ner.", ""))["model"]
    nlp = spacy.blank("en")
    nlp.add_pipe("sequence_ner", config={"model": model})
    examples = make_examples(nlp)
    train(nlp, examples)
    assert type(nlp.get_pipe("sequence_ner").head.encoder).__name__ == "SelfAttention"
    assert nlp.evaluate(examples)["ents_f"] > 0.9


@each_page
def test_commands_and_options_exist(page: Path) -> None:
    text = re.sub(r"\s+", " ", page.read_text(encoding="utf8").replace("\n```", "\n;")).replace("`", ";")
    for name, rest in re.findall(r"ner-arch ([a-z-]+)([^;|#]*)", text):
        assert name in COMMANDS, name
        options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        options |= {option for parameter in COMMANDS[name].params for option in parameter.secondary_opts}
        # The next command of the block is not part of this one.
        arguments = rest.split(" python -m ")[0].split(" make ")[0]
        used = {word for word in shlex.split(arguments.replace("'", "")) if re.fullmatch(r"--?[a-z][a-z-]*", word)}
        assert used <= options | {"--help"}, f"{name} {used - options}"


def test_a_new_label_in_python(trained: Language, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is learned from a text that marks nothing else, and the old labels stay."""
    (code,) = blocks(ROOT / "docs" / "new_label.md", "python")
    folder = tmp_path / "training" / "first" / "model-best"
    folder.mkdir(parents=True)
    trained.to_disk(folder)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "new_label.md", "exec"), names)
    nlp = names["nlp"]
    assert [ent.label_ for ent in nlp(names["TEXTS"][0][0]).ents][-1] == "DATE"
    for text, gold in TRAIN:
        doc = nlp(Doc(nlp.vocab, words=text.split(" ")))
        assert entities(doc) == gold


def test_workflows_are_those_of_the_project() -> None:
    """`python -m spacy project document --output docs/workflows.md` writes them."""
    project = srsly.read_yaml(ROOT / "project.yml")
    page = (ROOT / "docs" / "workflows.md").read_text(encoding="utf8")
    for command in project["commands"]:
        assert f"| `{command['name']}` | {command['help']} |" in page
    for name, steps in project["workflows"].items():
        assert f"| `{name}` | {' &rarr; '.join(f'`{step}`' for step in steps)} |" in page
    for name in set(project["vars"]) - {"options", "short"}:
        assert f"`{name}`" in page


def defaults_of(point: EntryPoint) -> dict[str, Any]:
    """Default values, as they are in a config. Models and scorers are left out: the page describes them in words."""
    parameters = inspect.signature(point.load()).parameters.values()
    defaults = {parameter.name: parameter.default for parameter in parameters}
    if point.group == "spacy_factories":
        defaults = dict(Language.get_factory_meta(point.name).default_config or {})
    return {
        name: default
        for name, default in defaults.items()
        if default is not inspect.Parameter.empty and not (isinstance(default, dict) and default)
    }


def test_api_has_every_function_and_argument_with_its_default() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf8")
    sections = dict(re.findall(r"^### `([\w.]+)`\n(.*?)(?=^##|\Z)", page, re.DOTALL | re.MULTILINE))
    for point in distribution("spacy-ner-arch").entry_points:
        if point.group == "spacy_cli":
            continue
        parameters = set(inspect.signature(point.load()).parameters)
        if point.group == "spacy_factories":
            parameters -= {"nlp", "name"}
        shown = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", sections[point.name], re.MULTILINE))
        assert shown.keys() == parameters, point.name
        for name, default in defaults_of(point).items():
            assert json.loads(shown[name].strip("`")) == default, f"{point.name} {name}"


def test_api_has_every_command() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf8")
    names = {str(command.name) for command in app.registered_commands}
    assert names == set(re.findall(r"^\| `python -m spacy ner-arch (\S+) ", text, re.MULTILINE))


def test_every_config_is_described() -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf8")
    for config in (ROOT / "configs").glob("*.cfg"):
        assert f"[`{config.stem}`](../configs/{config.name})" in page


def test_tables_are_those_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """If not, run `python benchmarks/readme.py`."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    readme = importlib.import_module("readme")
    pages = {page: page.read_text(encoding="utf8") for page in readme.PAGES}
    shown = {section for text in pages.values() for section, _ in readme.TABLE.findall(text)}
    assert set(readme.TABLES) <= shown, "a table that no page shows"
    for page, text in pages.items():
        assert readme.with_tables(page, text) == text, page


def test_rows_name_no_folders_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    rows = importlib.import_module("rows")
    argv = ["/a/benchmarks/latency.py", "/b/test.spacy", "x=/c/model:bfloat16", "--results", "/d", "--single", "30"]
    assert rows.shown_command(argv) == "python benchmarks/latency.py test.spacy x=model:bfloat16 --single 30"
    for path in (ROOT / "benchmarks" / "results").glob("*.jsonl"):
        for row in srsly.read_jsonl(path):
            assert not re.search(r"[\s=]/", row.get("command", "")), row


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    assert all(f"(docs/{page.name})" in readme for page in DOCS)
    assert len(readme.encode()) < 12_000
