"""The workflows of project.yml, run on the sample as the README says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import srsly
from thinc.api import Config

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "project.yml", folder)
    shutil.copytree(ROOT / "configs", folder / "configs")
    shutil.copytree(ROOT / "assets" / "sample", folder / "assets" / "sample")
    return folder


def spacy_project(folder, *args):
    command = [sys.executable, "-m", "spacy", "project", *args]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "2"}
    )


# Those that need no transformer.
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.cfg") if "Transformer" not in path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("config", [name for name in CONFIGS if name.startswith(("relation", "joint"))])
def test_quickstart_relations(project, config):
    done = spacy_project(project, "run", "quickstart-relations", ".", "--vars.relation_config", config)
    assert done.returncode == 0, done.stdout + done.stderr
    scores = srsly.read_json(project / "metrics" / f"sample-{config}.json")
    assert scores["rel_strict_f"] > 0.5
    assert "works_for" in done.stdout and "macro avg" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("config", [name for name in CONFIGS if not name.startswith(("relation", "joint"))])
def test_quickstart(project, config):
    done = spacy_project(project, "run", "quickstart", ".", "--vars.config", config)
    assert done.returncode == 0, done.stdout + done.stderr
    scores = srsly.read_json(project / "metrics" / f"sample-{config}.json")
    assert scores["ents_f"] > 0.85
    assert "Tarvik Museum of Glass" in done.stdout and "micro avg" in done.stdout


@pytest.mark.slow
def test_train_syn(project):
    """On the sample, with fewer steps than for a treebank."""
    config = Config().from_disk(project / "configs" / "synlstm_crf.cfg", interpolate=False)
    config["training"].update({"max_steps": 400, "eval_frequency": 100})
    config.to_disk(project / "configs" / "short.cfg")
    done = spacy_project(project, "run", "train-syn", ".", "--vars.syn_config", "short")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("treebank-short", "treebank-short-gold-trees"):
        scores = srsly.read_json(project / "metrics" / f"{name}.json")
        assert scores["ents_f"] > 0.85


@pytest.mark.slow
def test_train_joint(project):
    """On the sample in the files of CoNLL04, with fewer steps."""
    for part in ("train", "dev", "test"):
        lines = (project / "assets" / "sample" / f"{part}.jsonl").read_text(encoding="utf8").splitlines()
        (project / "assets" / "conll04").mkdir(exist_ok=True)
        srsly.write_json(project / "assets" / "conll04" / f"conll04_{part}.json", list(map(as_spert, lines)))
    config = Config().from_disk(project / "configs" / "joint_bilstm.cfg", interpolate=False)
    config["training"].update({"max_steps": 400, "eval_frequency": 100})
    config.to_disk(project / "configs" / "short.cfg")
    done = spacy_project(project, "run", "train-joint", ".", "--vars.joint_config", "short")
    assert done.returncode == 0, done.stdout + done.stderr
    scores = srsly.read_json(project / "metrics" / "conll04-short.json")
    assert scores["ents_f"] > 0.85 and scores["rel_strict_f"] > 0.5


def as_spert(line):
    sentence = srsly.json_loads(line)
    return {
        "tokens": sentence["tokens"],
        "entities": [{"start": start, "end": end, "type": label} for start, end, label in sentence["spans"]],
        "relations": [{"head": head, "tail": tail, "type": label} for head, tail, label in sentence["relations"]],
    }


@pytest.mark.slow
def test_train_custom(project):
    """On the corpora that the quickstart made, as if they were the user's own."""
    spacy_project(project, "run", "convert-sample")
    settings = {"train": "corpus/sample/dev.spacy", "dev": "corpus/sample/test.spacy", "lang": "de", "config": "bilstm"}
    done = spacy_project(
        project, "run", "train-custom", ".", *(x for k, v in settings.items() for x in (f"--vars.{k}", v))
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert srsly.read_json(project / "metrics" / "custom.json")["ents_f"] > 0.5


@pytest.mark.slow
def test_train_conll_says_where_the_files_go(project):
    """Without a network, or with one: in either case nothing half-made is left."""
    broken = srsly.read_yaml(project / "project.yml")
    for asset in broken["assets"]:
        asset["url"] = (project / "nowhere" / "file.txt").as_uri()
    srsly.write_yaml(project / "project.yml", broken)
    done = spacy_project(project, "run", "train-conll")
    assert done.returncode != 0
    assert "put it at" in " ".join((done.stdout + done.stderr).split())
    assert not any(path.is_file() for path in (project / "assets" / "conll2003").iterdir())


def test_readme_has_the_workflows_of_the_project():
    """`python -m spacy project document --output README.md` writes them."""
    project = srsly.read_yaml(ROOT / "project.yml")
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    for command in project["commands"]:
        assert f"| `{command['name']}` | {command['help']} |" in readme
    for name, steps in project["workflows"].items():
        assert f"| `{name}` | {' &rarr; '.join(f'`{step}`' for step in steps)} |" in readme


def test_configs_in_the_readme_can_be_read():
    blocks = re.findall(r"```ini\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf8"), re.DOTALL)
    for block in blocks:
        sections = "[training]\n[components]\n" + block.replace("${components.tok2vec.model.encode.width}", "96")
        assert Config().from_str(sections)
    assert len(blocks) == 2


def test_every_path_in_the_readmes_exists():
    for readme in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for path in re.findall(r"\]\(([\w./-]+)\)", readme.read_text(encoding="utf8")):
            assert (ROOT / path).exists(), f"{readme.name} names {path}"


def test_every_entry_point_loads():
    from importlib.metadata import distribution

    import spacy_ner_arch  # noqa: F401 - the package whose entry points they are

    points = distribution("spacy-ner-arch").entry_points
    assert {point.group for point in points} == {
        "spacy_factories",
        "spacy_architectures",
        "spacy_readers",
        "spacy_scorers",
        "spacy_callbacks",
        "spacy_loggers",
        "spacy_misc",
        "spacy_cli",
    }
    for point in points:
        assert point.load() is not None
