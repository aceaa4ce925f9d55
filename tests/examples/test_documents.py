"""The examples in README and docs run, and the commands and files that they name exist."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from polyscale.backbones import BackboneConfig
from polyscale.cli.app import app
from polyscale.config import validate
from polyscale.crops import TrainDataConfig
from polyscale.data.streets import write_streets
from polyscale.decoders import DecoderConfig
from polyscale.labels import LabelClass, LabelSpace
from polyscale.models import ModelConfig, build_model, save_checkpoint

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Excerpts of the source, explained line by line there: they do not stand alone.
EXCERPTS = [ROOT / "docs/explanation/the-idea.md"]


def blocks(language: str, documents: list[Path]) -> list[tuple[str, str]]:
    """(where, text) of each fenced block of a language."""
    found = []
    for path in documents:
        for number, text in enumerate(
            re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE), 1
        ):
            found.append((f"{path.relative_to(ROOT)}, block {number}", text))
    return found


PYTHON = blocks("python", [path for path in DOCUMENTS if path not in EXCERPTS])
COMMANDS = [
    (where, line)
    for where, text in blocks("bash", DOCUMENTS)
    for line in text.replace("\\\n", " ").splitlines()
    if "polyscale " in line and not line.startswith("#")
]


def test_there_are_examples() -> None:
    assert len(PYTHON) >= 3
    assert len(COMMANDS) >= 8


# Exporting with unknown sizes takes long; tests/export makes the same calls once.
RUNS = [
    pytest.param(where, text, id=where, marks=pytest.mark.slow if "export_network" in text else ())
    for where, text in PYTHON
]


@pytest.mark.parametrize(("where", "text"), RUNS)
def test_python_blocks_run(where: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with what the examples read: a run, a photo and a data set."""
    space = LabelSpace(classes=tuple(LabelClass(name=name, color=(9, 9, 9)) for name in ("a", "b")))
    config = ModelConfig(backbone=BackboneConfig(name="tiny"), decoder=DecoderConfig(light_channels=8))
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "runs/first/best.safetensors", build_model(config, space), space)
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / "photo.jpg")
    if "clip.mp4" in text:
        write_clip(tmp_path / "clip.mp4")
    if "mydata" in text:
        write_streets(tmp_path / "mydata", {"train": 2, "val": 2}, size=(64, 96))
    if '"mine:' in text:
        write_own_parts(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    exec(compile(text, where, "exec"), {"__name__": "example"})


def write_own_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``mine.py`` as a guide has it, and the label space that goes with it."""
    (own,) = [text for _, text in PYTHON if "class Pairs" in text]
    (folder / "mine.py").write_text(own)
    classes = (LabelClass(name="a", color=(9, 9, 9)), LabelClass(name="b", color=(9, 9, 90)))
    LabelSpace(classes=classes).to_yaml(folder / "two.yaml")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "mine", raising=False)


def write_clip(path: Path) -> None:
    """Three frames."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")))
        container.mux(stream.encode(None))


def command_options(words: list[str]) -> set[str]:
    """The options of the command that the words name."""
    import typer.main

    command = typer.main.get_command(app)
    for word in words:
        subcommands = getattr(command, "commands", {})
        if word in subcommands:
            command = subcommands[word]
        elif hasattr(command, "default_command"):
            command = subcommands[command.default_command]
        elif subcommands:
            raise AssertionError(f"no such command: {word}")
    return {name for parameter in command.params for name in parameter.opts}


@pytest.mark.parametrize(("where", "line"), COMMANDS, ids=[f"{where}: {line[:40]}" for where, line in COMMANDS])
def test_commands_exist_with_their_options(where: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    words = words[words.index("polyscale") + 1 :]
    options = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert options <= command_options([word for word in words if not word.startswith("-")]), line
    for word in words:
        if word.startswith("configs/"):
            assert (ROOT / word).is_file(), f"{where} names {word}"


def test_yaml_blocks_are_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with the auto-labels that a mix names."""
    from polyscale.plain_yaml import parse_yaml

    (tmp_path / "auto").mkdir()
    (tmp_path / "auto" / "data.yaml").write_text("kind: folder\n")
    monkeypatch.chdir(tmp_path)
    for where, text in blocks("yaml", DOCUMENTS):
        values = parse_yaml(text, where)
        if "classes" in values:
            validate(LabelSpace, values)
        else:
            from pydantic import TypeAdapter

            TypeAdapter(TrainDataConfig).validate_python(values.get("data", {}).get("train", values))


def test_links_to_files_exist() -> None:
    for path in [*DOCUMENTS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
