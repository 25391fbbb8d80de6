"""What is built for others to install: the package's own wheel, and a trained pipeline by `spacy package`."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import TRAIN

ROOT = Path(__file__).parent.parent


def run(*args, **settings):
    done = subprocess.run([sys.executable, *map(str, args)], capture_output=True, text=True, check=False, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy: building leaves files in the source folder.
    source = tmp_path_factory.mktemp("source") / "project"
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("assets", "tests", "benchmarks")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_has_the_templates_and_the_type_marker(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    templates = [str(path.relative_to(ROOT)) for path in (ROOT / "spacy_ner_arch").rglob("*.jinja")]
    assert len(templates) >= 2 and set(templates) <= set(names)
    assert "spacy_ner_arch/py.typed" in names and not any(name.startswith("tests") for name in names)


@pytest.mark.slow
def test_packaged_pipeline_finds_the_same_entities(wheel, trained, tmp_path):
    """Both wheels are installed beside each other and shadow the checkout."""
    trained.to_disk(tmp_path / "model")
    run("-m", "spacy", "package", tmp_path / "model", tmp_path, "--name", "tiny", "--build", "wheel", "--force")
    package = next(tmp_path.rglob("en_tiny*.whl"))
    metadata = next(name for name in zipfile.ZipFile(package).namelist() if name.endswith("METADATA"))
    assert "spacy-ner-arch" in zipfile.ZipFile(package).read(metadata).decode()
    run("-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path / "site", wheel, package)
    code = (
        "import json, spacy, spacy_ner_arch; nlp = spacy.load('en_tiny')\n"
        f"found = [[(e.text, e.label_, e._.score) for e in nlp(text).ents] for text in {[t for t, _ in TRAIN]!r}]\n"
        "print(json.dumps([spacy_ner_arch.__file__, found]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    origin, found = json.loads(run("-c", code, env=environment, cwd=tmp_path).splitlines()[-1])
    assert origin.startswith(str(tmp_path))
    expected = [
        [(e.text, e.label_, pytest.approx(e._.score, abs=1e-5)) for e in trained(text).ents] for text, _ in TRAIN
    ]
    assert [list(map(tuple, doc)) for doc in found] == expected and any(found)
