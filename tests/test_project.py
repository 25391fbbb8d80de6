"""The workflows of project.yml on the sample, and the examples of the documentation."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import spacy
import srsly
from spacy.tokens import DocBin
from spacy.training import Corpus
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from spacy.vocab import Vocab
from thinc.api import Config
from weasel.util import load_project_config, split_command

ROOT = Path(__file__).parent.parent
# Whole workflows; they take minutes on a busy machine.
pytestmark = pytest.mark.timeout(1800)
# Not docs/workflows.md, whose links weasel writes for a page beside project.yml.
PAGES = [*ROOT.glob("*.md"), *sorted(set((ROOT / "docs").glob("*.md")) - {ROOT / "docs" / "workflows.md"})]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "project.yml", folder)
    shutil.copytree(ROOT / "configs", folder / "configs")
    shutil.copytree(ROOT / "assets" / "sample", folder / "assets" / "sample")
    shutil.copy(ROOT / "assets" / "generate_sample.py", folder / "assets")
    return folder


def spacy_project(folder, *args):
    return spacy_command(folder, "project", *args)


def spacy_command(folder, *args):
    command = [sys.executable, "-m", "spacy", *map(str, args)]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


# Configs without a transformer.
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.cfg") if "Transformer" not in path.read_text())


def test_quickstarts_need_no_gpu():
    settings = load_project_config(ROOT)["vars"]
    assert {settings["config"], settings["relation_config"]} <= set(CONFIGS) and settings["gpu"] == -1


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
def test_distil(project):
    done = spacy_project(project, "run", "distil", ".", "--vars.teacher", "bilstm_crf", "--vars.student", "bilstm")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "chains of the teacher, 0 gold entities" in done.stdout
    assert srsly.read_json(project / "metrics" / "student.json")["ents_f"] > 0.85


@pytest.mark.slow
def test_a_new_label(project):
    """The recipe of docs/new_label.md on the sample: MISC is added by 60 documents that mark nothing else, then the old
    documents are trained on as well."""
    spacy_project(project, "run", "convert-sample")
    corpus = project / "corpus" / "new_label"
    for part in ("train", "dev"):
        docs = list(DocBin().from_disk(project / "corpus" / "sample" / f"{part}.spacy").get_docs(Vocab()))
        new = docs[-60:] if part == "train" else docs
        write_labels(corpus / f"old_{part}.spacy", [doc for doc in docs if part == "dev" or doc not in new], OLD)
        write_labels(corpus / f"{part}.spacy", new, {"MISC"})
    config = Config().from_disk(project / "configs" / "bilstm_crf.cfg", interpolate=False)
    config["training"].update({"max_steps": 400, "eval_frequency": 100})
    old = fit(config, corpus / "old_train.spacy", corpus / "old_dev.spacy", project / "training" / "old") / "model-best"
    for part in ("train", "dev"):
        add_chains(project, old, corpus / f"{part}.spacy", corpus / "soft" / part, "MISC")

    (block,) = re.findall(r"```ini\n(.*?)```", (ROOT / "docs" / "new_label.md").read_text("utf8"), re.DOTALL)
    config = Config().from_str(block, interpolate=False)
    config["paths"]["old"] = str(old)
    config["initialize"]["before_init"]["labels"] = {"sequence_ner": ["MISC"]}
    # The corpus is small and easy, so that it can be learned fast.
    config["training"].update({"max_steps": 300, "dropout": 0.3})
    config["training"]["optimizer"]["learn_rate"] = 0.001
    scores = {"old": label_scores(project, old)}
    for name, path in {"distilled": corpus / "soft" / "train", "plain": corpus / "train.spacy"}.items():
        folder = fit(config, path, corpus / "soft" / "dev", project / "training" / name)
        scores[name] = label_scores(project, folder / "model-last")
    new = config["paths"]["old"] = str(project / "training" / "distilled" / "model-last")
    add_chains(project, new, corpus / "old_train.spacy", corpus / "soft" / "train" / "old", ",".join(OLD))
    folder = fit(config, corpus / "soft" / "train", corpus / "soft" / "dev", project / "training" / "all")
    scores["all"] = label_scores(project, folder / "model-last")
    lost = {name: max(scores["old"][label] - found[label] for label in OLD) for name, found in scores.items()}
    assert lost["distilled"] < 0.04 and lost["plain"] > 0.5, scores
    assert scores["distilled"]["MISC"] > 0.6, scores
    assert lost["all"] < 0.02 and scores["all"]["MISC"] > 0.5, scores


OLD = ("LOC", "ORG", "PER")


def add_chains(project, model, source, output, gold_labels):
    """The chains of a pipeline, where these labels are not gold."""
    options = ["--soft", "--gold-labels", gold_labels, "--to", "spacy"]
    done = spacy_command(project, "ner-arch", "annotate", model, source, output, *options)
    assert done.returncode == 0, done.stdout + done.stderr


def write_labels(path, docs, labels):
    """Documents with the entities of some labels; all other tokens are outside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    docs = [doc.copy() for doc in docs]
    for doc in docs:
        doc.set_ents([ent for ent in doc.ents if ent.label_ in labels], default="outside")
    DocBin(docs=docs).to_disk(path)


def fit(config, train_path, dev, folder):
    """Train as `spacy train` does. Returns the folder."""
    folder.mkdir(parents=True)
    config = config.copy()
    config["paths"].update({"train": str(train_path), "dev": str(dev)})
    train(init_nlp(config), folder)
    return folder


def label_scores(project, model):
    nlp = spacy.load(model)
    scores = nlp.evaluate(list(Corpus(project / "corpus" / "sample" / "test.spacy")(nlp)))
    return {label: found["f"] for label, found in scores["ents_per_type"].items()}


@pytest.mark.slow
def test_train_syn(project):
    """On the sample, with fewer steps."""
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
    """On the sample in the format of CoNLL04, with fewer steps."""
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
    """On corpora of the quickstart as the user's own, with fewer steps."""
    spacy_project(project, "run", "convert-sample")
    short = srsly.read_yaml(project / "project.yml")
    short["vars"]["options"] += " ${vars.short}"
    srsly.write_yaml(project / "project.yml", short)
    settings = {"train": "corpus/sample/dev.spacy", "dev": "corpus/sample/test.spacy", "lang": "de", "config": "bilstm"}
    done = spacy_project(
        project, "run", "train-custom", ".", *(x for k, v in settings.items() for x in (f"--vars.{k}", v))
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert srsly.read_json(project / "metrics" / "custom.json")["ents_f"] > 0.5


@pytest.mark.slow
def test_train_vectors(project):
    """On the sample, with fewer steps and a file like those of GloVe: words in lower case, no line with the numbers."""
    spacy_project(project, "run", "convert-sample")
    words = re.findall(r"(?m)^\d+\t(\S+)", (project / "assets" / "sample" / "train.conllu").read_text(encoding="utf8"))
    lines = [f"{word} {len(word)} {i % 7} {i % 5}" for i, word in enumerate(sorted({word.lower() for word in words}))]
    (project / "vectors.txt").write_text("\n".join(lines) + "\n", encoding="utf8")
    short = srsly.read_yaml(project / "project.yml")
    short["vars"]["options"] += " ${vars.short}"
    srsly.write_yaml(project / "project.yml", short)
    corpora = ["--vars.train", "corpus/sample/train.spacy", "--vars.dev", "corpus/sample/dev.spacy"]
    done = spacy_project(project, "run", "train-vectors", ".", "--vars.vectors", "vectors.txt", *corpora)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "have no vector" not in done.stdout + done.stderr
    config = Config().from_disk(project / "training" / "with-vectors" / "model-best" / "config.cfg", interpolate=False)
    assert config["components"]["sequence_ner"]["model"]["tok2vec"]["tune_vectors"]
    assert srsly.read_json(project / "metrics" / "with-vectors.json")["ents_f"] > 0.8


def test_missing_assets_are_named(project):
    """The workflow stops before its first step and says how to fetch the files."""
    done = spacy_project(project, "run", "train-conll")
    assert done.returncode != 0
    output = " ".join((done.stdout + done.stderr).split())
    assert "assets/conll2003/train.txt" in output and "assets' command" in output


def test_quotes_in_variables_keep_paths_with_blanks():
    """As docs/workflows.md says. Each script is split as weasel does it."""
    paths = {"train": "my data/train.spacy", "dev": "my data/dev.spacy", "encoder": "my data/bert"}
    project = load_project_config(ROOT, overrides={f"vars.{name}": f"'{path}'" for name, path in paths.items()})
    scripts = {command["name"]: command["script"] for command in project["commands"]}
    for name in ("fit-custom", "fit-vectors"):
        words = split_command(scripts[name][-1])
        for option, path in paths.items():
            assert words[words.index(f"--paths.{option}") + 1] == path
    for name in ("evaluate-custom", "evaluate-vectors"):
        assert paths["dev"] in split_command(scripts[name][0])


def test_windows_runs_the_same_commands():
    """There, weasel keeps the quotes around arguments."""
    commands = srsly.read_yaml(ROOT / "project.yml")["commands"]
    for script in (script for command in commands for script in command["script"]):
        # The sentence of label-sample has quotes on Windows.
        words = [word.strip('"') for word in shlex.split(script, posix=False)]
        assert words == shlex.split(script), script


def test_every_asset_is_the_input_of_a_command():
    """Otherwise a workflow would fail in the middle instead of asking for its assets."""
    project = srsly.read_yaml(ROOT / "project.yml")
    inputs = {path for command in project["commands"] for path in command.get("deps", ())}
    assert {asset["dest"] for asset in project["assets"]} <= inputs


def test_every_input_is_shipped_an_asset_or_an_output():
    """With the default variables. Outputs of the own data of a user are not tracked."""
    project = load_project_config(ROOT)
    known = {path for command in project["commands"] for path in command.get("outputs", ())}
    known |= {asset["dest"] for asset in project["assets"]} | {"training/custom/model-best"}
    known |= {"assets/vectors.txt", "training/with-vectors/model-best"}
    for command in project["commands"]:
        for path in command.get("deps", ()):
            assert path in known or (ROOT / path).exists(), f"{command['name']}: {path}"


def test_configs_in_the_docs_can_be_read():
    """Sections of the shown blocks may lie inside sections that are not shown."""
    blocks = [block for page in PAGES for block in re.findall(r"```ini\n(.*?)```", page.read_text("utf8"), re.DOTALL)]
    for block in blocks:
        shown = set(re.findall(r"^\[([\w.]+)\]", block, re.MULTILINE))
        around = {name.rsplit(".", i)[0] for name in shown for i in range(1, name.count(".") + 1)} - shown
        sections = "".join(f"[{name}]\n" for name in sorted(around))
        assert Config().from_str(sections + block, interpolate=False)
    assert blocks


def test_every_path_in_the_docs_exists():
    for page in PAGES:
        for path in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", page.read_text(encoding="utf8")):
            assert (page.parent / path).exists(), f"{page.name} names {path}"


def test_every_entry_point_loads():
    from importlib.metadata import distribution

    import spacy_ner_arch  # noqa: F401 - the package whose entry points they are

    points = distribution("spacy-ner-arch").entry_points
    assert {point.group for point in points} == {
        "spacy_factories",
        "spacy_architectures",
        "spacy_batchers",
        "spacy_readers",
        "spacy_scorers",
        "spacy_callbacks",
        "spacy_loggers",
        "spacy_misc",
        "spacy_cli",
    }
    for point in points:
        assert point.load() is not None
