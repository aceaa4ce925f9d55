"""Every option that takes a number is given senseless ones: the command does its work, or ends with one line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from polyscale.cli import main
from polyscale.cli.app import app
from polyscale.data.streets import STREETS

SENSELESS = ("-1", "nan", "1e309", "1" + "0" * 30)
"""The last one is allowed where more than there is means all: these commands then do their work."""

COMMANDS = {
    "demo": ["--out", "{new}/demo"],
    "evaluate": ["{network}", "{streets}:train", "--out", "{new}/scores", "--scales", "1,2", "--device", "cpu"],
    "predict": ["{network}", "{pictures}", "--out", "{new}/predictions", "--scales", "1,2", "--device", "cpu"],
    "try": ["{network}", "--no-open"],
    "video": ["{network}", "{pictures}", "{new}/out.mkv", "--scales", "1", "--device", "cpu"],
    "background": ["{network}", "{pictures}", "{new}/out.mkv", "--keep", "road", "--scales", "1", "--device", "cpu"],
    "export-labels": ["{streets}", "--to", "coco", "--out", "{new}/labels"],
    "data convert": ["{pictures}", "{new}/converted", "--binary", "lake"],
    "data suspects": ["{network}", "{streets}:train", "--out", "{new}/suspects", "--scales", "1", "--device", "cpu"],
    "data check": ["{streets}"],
    "data draw": ["{new}/drawn", "--like", "cityscapes", "--size", "64x80", "--train", "1", "--val", "0"],
    "data report": ["{streets}", "--out", "{new}/page.html"],
    "autolabel audit": ["{auto}", "--truth", "{streets}:train", "--out", "{new}/audit"],
    "autolabel run": ["{network}", "{pictures}", "--out", "{new}/auto", "--scales", "1", "--device", "cpu"],
    "autolabel rethreshold": ["{auto}"],
}
TEXTS = [
    *[("predict", "--scales", f"1,{value}") for value in SENSELESS],
    *[("predict", "--bands", f"1,2,{value}") for value in SENSELESS],
    *[("video", "--size", f"32x{value}") for value in SENSELESS],
    *[("data draw", "--size", f"32x{value}") for value in SENSELESS],
    *[("autolabel run", option, value) for option in ("--threshold", "--keep") for value in SENSELESS],
    *[("autolabel rethreshold", "--threshold", value) for value in SENSELESS],
    *[("data ranges", "--percentiles", f"{value},99") for value in SENSELESS],
]


def _numeric(group: typer.Typer, name: str = "") -> Iterator[tuple[str, str]]:
    """Each command with each of its options that takes a number."""
    for one in group.registered_commands:
        assert one.callback is not None
        for key, kind in get_type_hints(one.callback, include_extras=True).items():
            base, *rest = get_args(kind) if get_origin(kind) is Annotated else (kind,)
            if not {int, float} & {base, *get_args(base)}:
                continue
            declared = [text for info in rest for text in getattr(info, "param_decls", ()) if text.startswith("--")]
            yield f"{name} {one.name}".strip(), (declared or [f"--{key.replace('_', '-')}"])[0]
    for below in group.registered_groups:
        assert below.typer_instance is not None
        yield from _numeric(below.typer_instance, f"{name} {below.name}".strip())


OPTIONS = list(_numeric(app))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two drawn scenes, two pictures, the smallest network, and its labels."""
    from polyscale.models import ModelConfig, build_model, save_checkpoint

    folder = tmp_path_factory.mktemp("numbers")
    assert main(["data", "draw", f"{folder}/streets", "--train", "2", "--val", "0", "--size", "64x80"]) == 0
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"backbone": {"name": "tiny"}, "decoder": {"kind": "light"}})
    save_checkpoint(folder / "network.safetensors", build_model(config, STREETS), STREETS)
    (folder / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)).save(folder / "pictures" / name)
    network = f"{folder}/network.safetensors"
    options = ["--confidence", "--threshold", "0.1", "--scales", "1", "--device", "cpu"]
    assert main(["autolabel", network, f"{folder}/streets:train", "--out", f"{folder}/auto", *options]) == 0
    names = {name: f"{folder}/{name}" for name in ("streets", "pictures", "auto")}
    return names | {"network": network}


def _line(made: dict[str, str], new: Path, command: str, option: str, value: str) -> list[str]:
    """The command with its usual arguments and one option more."""
    base = COMMANDS.get(command, ["{streets}"])
    given = [text.format(new=new, **made) for text in base]
    if option in given:
        place = given.index(option)
        del given[place : place + 2]
    return [*command.split(), *given, f"{option}={value}"]


@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=[f"{name}{option}" for name, option in OPTIONS])
@pytest.mark.parametrize("values", [SENSELESS[:3], pytest.param(SENSELESS[3:], marks=pytest.mark.slow)])
def test_a_senseless_number_is_used_or_refused_in_one_line(
    command: str,
    option: str,
    values: tuple[str, ...],
    made: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command in COMMANDS, "a new command with a number; give it a line above"
    for place, value in enumerate(values):
        arguments = _line(made, tmp_path / str(place), command, option, value)
        status = main(arguments)
        shown = capsys.readouterr().err
        if status == 2:
            line = shown[shown.index("error: ") :]
            assert line.count("\n") == 1, (arguments, shown)
            assert len(line) < 500, (arguments, shown)
        else:
            assert status == 0, arguments
            assert value == SENSELESS[3], arguments


@pytest.mark.parametrize(("command", "option", "value"), TEXTS)
def test_a_senseless_number_in_a_text_is_refused(
    command: str, option: str, value: str, made: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_line(made, tmp_path / "new", command, option, value)) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert len(shown) < 500
    assert not (tmp_path / "new").exists()
