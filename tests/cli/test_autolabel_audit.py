import json

import numpy as np
import pytest
import torch
from PIL import Image

from polyscale.cli import main
from polyscale.data.streets import STREETS


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    """Two drawn scenes, and what an untrained teacher says of them."""
    from polyscale.models import ModelConfig, build_model, save_checkpoint

    folder = tmp_path_factory.mktemp("data")
    assert main(["data", "draw", str(folder / "streets"), "--train", "2", "--val", "0", "--size", "64x80"]) == 0
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"backbone": {"name": "tiny"}, "decoder": {"kind": "light"}})
    model = build_model(config, STREETS)
    with torch.no_grad():  # a teacher that is sure of some pixels, and of some not
        for name, parameter in model.named_parameters():
            if "decoder" in name and parameter.ndim == 4:
                parameter *= 8
    save_checkpoint(folder / "teacher.safetensors", model, STREETS, {})
    data, teacher = f"{folder / 'streets'}:train", str(folder / "teacher.safetensors")
    options = ["--scales", "1", "--threshold", "0.1", "--device", "cpu", "--confidence"]
    assert main(["autolabel", teacher, data, "--out", str(folder / "auto"), *options]) == 0
    return folder


def test_tables_files_page_and_thresholds(streets, tmp_path, capsys):
    auto, truth = str(streets / "auto"), f"{streets / 'streets'}:train"
    assert main(["autolabel", "audit", auto, "--truth", truth, "--out", str(tmp_path), "--precision", "0.2"]) == 0
    captured = capsys.readouterr()
    values = json.loads((tmp_path / "audit.json").read_text())
    everything = values["rows"][len(STREETS.names)]
    assert everything["class"] == "(all)"
    labelled = sum((np.asarray(Image.open(path)) != 255).sum() for path in (streets / "auto" / "masks").glob("*.png"))
    assert everything["kept_as"] == labelled
    page = (tmp_path / "audit.html").read_text()
    assert page.count("data:image/") == 2 * 5, "image, truth, auto-label, error and confidence of each"
    assert f"{100 * everything['precision']:.1f} %" in page
    assert "Precision over coverage" in page
    last = captured.out.splitlines()[-1]
    assert last == f'--threshold "{values["threshold_option"]}"'
    option = last.split('"')[1]
    assert {part.split("=")[0] for part in option.split(",")} == set(STREETS.names)
    # The thresholds are taken back, and give what the audit said they would.
    assert main(["autolabel", "rethreshold", auto, "--threshold", option]) == 0
    assert "run `polyscale autolabel audit` again" not in capsys.readouterr().err
    assert main(["autolabel", "audit", auto, "--truth", truth, "--out", str(tmp_path), "--precision", "0.2"]) == 0
    again = json.loads((tmp_path / "audit.json").read_text())
    stored = {row["class"]: row["precision"] for row in again["rows"] if row["threshold"] is None}
    reached = {name: value for name, value in values["thresholds"].items() if value is not None}
    assert all(stored[name] >= 0.2 for name in reached)
    assert all(stored[name] is None for name in stored if name not in reached and name != "(all)")
    # An audit that lies beside the labels is not of the new ones.
    assert main(["autolabel", "audit", auto, "--truth", truth]) == 0
    assert main(["autolabel", "rethreshold", auto, "--threshold", "0.5"]) == 0
    assert "run `polyscale autolabel audit` again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{auto}", "--truth", "{streets}:train", "--precision", "95"], "--precision must be above 0 and at most 1"),
        (["{streets}", "--truth", "{streets}:train"], "holds no auto-labels (no autolabel.json)"),
        (["{auto}", "--truth", "{streets}:nowhere"], "no split 'nowhere'"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(streets, capsys, arguments, message):
    places = {"auto": str(streets / "auto"), "streets": str(streets / "streets")}
    assert main(["autolabel", "audit", *(argument.format(**places) for argument in arguments)]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
