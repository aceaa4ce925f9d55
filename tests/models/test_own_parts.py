"""A decoder and a backbone of a user's own, named by import path."""

import sys
from pathlib import Path

import pytest
import torch

import polyscale
from polyscale.cli import main
from polyscale.config import validate
from polyscale.errors import UserError
from polyscale.labels import LabelClass, LabelSpace
from polyscale.models import ModelConfig, build_model, load_checkpoint, read_metadata, save_checkpoint

SPACE = LabelSpace(name="two", classes=(LabelClass(name="a", color=(1, 2, 3)), LabelClass(name="b", color=(4, 5, 6))))
OWN = """
from pathlib import Path
from torch import nn
from polyscale.backbones import Backbone
from polyscale.decoders import Decoded, Decoder

Path(__file__).with_name("imported").touch()

class Stem(Backbone):
    def __init__(self, width=8, pretrained=False):
        super().__init__()
        self.channels, self.strides = (width,), (4,)
        self.pretrained = pretrained
        self.conv = nn.Conv2d(3, width, 7, stride=4, padding=3)

    def forward(self, x):
        return [self.conv(x)]

class Head(Decoder):
    def __init__(self, channels, strides, num_classes, width=6):
        super().__init__()
        self.feature_channels = width
        self.features = nn.Conv2d(channels[0], width, 3, padding=1)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, maps):
        features = self.features(maps[0]).relu()
        return Decoded(features, self.classifier(features))

class Silent(Head):
    def __init__(self, channels, strides, num_classes):
        super().__init__(channels, strides, num_classes)
        del self.feature_channels

class Uneven(Stem):
    def __init__(self):
        super().__init__()
        self.strides = (4, 8)

def function(**_):
    raise AssertionError("called")
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a module ``own_parts``; it leaves a file ``imported`` there when its code runs."""
    (tmp_path / "own_parts.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_parts", raising=False)
    return tmp_path


def config(backbone: object = None, decoder: object = None) -> ModelConfig:
    values = {
        "backbone": backbone or {"name": "own_parts:Stem", "options": {"width": 12}},
        "decoder": decoder or {"kind": "own_parts:Head", "options": {"width": 10}},
        "multiscale": {"attention": {"channels": 4}},
    }
    return validate(ModelConfig, values)


def test_own_parts_make_a_network_of_several_scales(own: Path) -> None:
    model = build_model(config({"name": "own_parts:Stem", "options": {"width": 12}, "pretrained": "w.pth"}), SPACE)
    assert model.segmenter.backbone.pretrained == "w.pth"  # type: ignore[union-attr]
    assert model.segmenter.decoder.feature_channels == 10  # type: ignore[union-attr]
    assert model.eval()(torch.rand(2, 3, 33, 50)).logits.shape == (2, 2, 33, 50)


@pytest.mark.parametrize(
    ("backbone", "decoder", "message"),
    [
        (None, "own_parts:Absent", "module 'own_parts' has no 'Absent'"),
        (None, "own_parts:Haed", r"has no 'Haed' \(did you mean 'Head'\?\)"),
        (None, "gone.parts:Head", "there is no module 'gone' for gone.parts:Head"),
        (None, "own_parts:function", "is no subclass of polyscale.decoders.Decoder"),
        (None, "own_parts:Stem", "is no subclass of polyscale.decoders.Decoder"),
        (None, {"kind": "own_parts:Head", "options": {"widht": 3}}, "does not take these options: .*'widht'"),
        (None, {"kind": "own_parts:Head", "options": {"channels": 3}}, "does not take these options"),
        (None, "own_parts:Silent", "does not set feature_channels"),
        ("own_parts:Uneven", None, "must set channels and strides"),
        ("own_parts:function", None, "is no subclass of polyscale.backbones.Backbone"),
    ],
)
def test_parts_that_cannot_be_made_are_one_line(own: Path, backbone: str, decoder: object, message: str) -> None:
    chosen = {"kind": decoder} if isinstance(decoder, str) else decoder
    with pytest.raises(UserError, match=message) as caught:
        build_model(config(backbone and {"name": backbone}, chosen), SPACE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [("import absent_too", "No module named 'absent_too'"), ("1 / 0", "ZeroDivisionError"), ("def", "SyntaxError")],
)
def test_a_module_that_fails_is_told(own: Path, code: str, message: str) -> None:
    (own / "broken_parts.py").write_text(code)
    with pytest.raises(UserError, match=message):
        build_model(config(decoder={"kind": "broken_parts:Head"}), SPACE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"backbone": {"name": "tiny", "options": {"width": 3}}}, "options are for a backbone of your own"),
        ({"backbone": {"name": "own_parts:Stem", "drop_path": 0.1}}, "drop_path has no effect on own_parts:Stem"),
        ({"decoder": {"kind": "ligth"}}, r"unknown decoder 'ligth' \(did you mean 'light'\?\); choose from light, ocr"),
        ({"decoder": {"kind": "own_parts.Head"}}, "or the import path package.module:Name of your own"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate(ModelConfig, values)


def test_a_checkpoint_runs_no_code_that_its_user_did_not_name(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = own / "m.safetensors"
    model = build_model(config(), SPACE).eval()
    save_checkpoint(path, model, SPACE)
    (own / "imported").unlink()
    del sys.modules["own_parts"]
    names = ["own_parts:Stem", "own_parts:Head"]
    assert read_metadata(path).config == model.config
    for trust in ([], names[:1], names[1:], ["own_parts"]):
        with pytest.raises(UserError, match=r"add --trust own_parts:(Stem|Head), in Python trust=\['own_parts:"):
            polyscale.load(path, trust=trust)
    assert main(["predict", str(path), str(own), "--out", str(own / "out")]) == 2
    assert not (own / "imported").exists()
    images = torch.rand(1, 3, 20, 24)
    with torch.inference_mode():
        assert torch.equal(load_checkpoint(path, trust=names).model(images).logits, model(images).logits)
    assert (own / "imported").exists()


@pytest.mark.parametrize("command", ["predict", "evaluate", "autolabel"])
def test_commands_take_trust(own: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    from polyscale.data.streets import write_streets

    data = own / "data"
    write_streets(data, {"val": 1}, (64, 64))
    from polyscale.data import open_data

    space = open_data(data, "val").label_space
    save_checkpoint(own / "m.safetensors", build_model(config(), space), space)
    images = {"evaluate": str(data)}.get(command, str(data / "images" / "val"))
    call = [command, str(own / "m.safetensors"), images, "--out", str(own / "out"), "--scales", "0.5,1"]
    assert main(call) == 2
    assert "--trust own_parts:Stem" in capsys.readouterr().err
    assert main([*call, "--trust", "own_parts:Stem", "--trust", "own_parts:Head"]) == 0
