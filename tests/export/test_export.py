"""Exported files give what the network gives, at sizes that were never traced."""

import json

import av
import numpy as np
import pytest
import torch
from PIL import Image

import polyscale
from polyscale.cli import main
from polyscale.data.streets import write_streets
from polyscale.errors import UserError
from polyscale.export import export_network, write
from polyscale.export.graph import Exportable
from polyscale.export.traceable import traceable
from polyscale.export.verify import agreement, sizes_to_try
from polyscale.models import load_checkpoint, read_metadata
from polyscale.models.checkpoint import read_weights

pytest.importorskip("onnxruntime")
if write.TOO_OLD:
    pytest.skip("export needs PyTorch 2.9", allow_module_level=True)

SIZES = ((64, 96), (65, 97), (33, 40), (61, 160), (128, 33), (16, 20), (4, 9))


@pytest.fixture(scope="module")
def exported(tmp_path_factory, build, space):
    """A network with fast fusion, its file and the comparison."""
    folder, model = tmp_path_factory.mktemp("exported"), build("fast")
    made = export_network(model, space, folder / "net.onnx", scales=(1, 0.5), info={"score": "none"})
    return made.path, model, made.agreement


@pytest.mark.parametrize("kind", ["hierarchical", "fast", "pairs", "views", "both", "explicit", "average", "single"])
def test_the_traceable_copy_gives_the_same_at_every_size(kind, build):
    """What is traced, computed by PyTorch: no graph is made here, so this is quick."""
    model = build(kind)
    scales = model.choose(None)
    found = agreement(Exportable(traceable(model), scales), Exportable(model, scales), SIZES)
    assert found.labels == 1
    assert found.relative < 1e-4
    assert found.weights < 1e-4


@pytest.mark.slow
def test_the_file_gives_what_the_network_gives(exported):
    path, model, verified = exported
    assert verified.labels == 1
    assert verified.relative < 1e-4
    assert any(height % 2 and width % 2 for height, width in verified.sizes)
    network, known = polyscale.load(path, "cpu"), polyscale.Predictor(model, read_metadata(path).label_space, "cpu")
    for height, width in SIZES:
        image = torch.rand(3, height, width)
        found, expected = network.predict(image), known.predict(image, (0.5, 1))
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-4)
        assert list(found.attention) == [1.0, 0.5]
        for scale, weight in expected.attention.items():
            np.testing.assert_allclose(found.attention[scale], weight, atol=1e-4)
        quick = network.predict(image, flip=True, probabilities=False)
        flipped = known.predict(image, (0.5, 1), flip=True, probabilities=False)
        assert (quick.labels == flipped.labels).mean() > 0.999


@pytest.mark.slow
def test_the_file_says_what_it_is(exported):
    import onnx

    path, model, _ = exported
    metadata = read_metadata(path)
    assert metadata.label_space.names == ("a", "b", "c")
    assert metadata.info == {"score": "none"}
    assert metadata.config == model.config
    read = onnx.load(path)
    told = json.loads({item.key: item.value for item in read.metadata_props}["polyscale"])["export"]
    assert told["scales"] == [1.0, 0.5]
    assert told["mean"] == pytest.approx(model.segmenter.mean.flatten().tolist())
    shape = [side.dim_param or side.dim_value for side in read.graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["batch", 3, "height", "width"]


@pytest.mark.slow
def test_what_an_exported_network_cannot_do_is_told(exported, tmp_path):
    path, _, _ = exported
    network = polyscale.load(path, "cpu")
    with pytest.raises(UserError, match=r"was exported for scales 0.5,1; leave --scales out"):
        network.predict(torch.rand(3, 32, 32), (0.5, 1, 2))
    with pytest.raises(UserError, match="an image of 1x40 has no pixel at scale 0.5"):
        network.predict(torch.rand(3, 1, 40))
    with pytest.raises(UserError, match="leave --precision out"):
        polyscale.load(path, "cpu", "bfloat16").predict(torch.rand(3, 32, 32))
    with pytest.raises(UserError, match="for use only"):
        read_weights(path)
    with pytest.raises(UserError, match="is exported already"):
        export_network(network.model, network.label_space, tmp_path / "again.onnx")
    with pytest.raises(UserError, match="only networks of a checkpoint"):
        network.save_pretrained(tmp_path / "mine")


@pytest.mark.slow
def test_commands_take_the_file_in_place_of_a_checkpoint(exported, tmp_path, capsys):
    path, _, _ = exported
    write_streets(tmp_path / "data", {"val": 2}, size=(64, 96))
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (45, 61, 3), np.uint8)).save(photo)
    assert main(["predict", str(path), str(photo), "--out", str(tmp_path / "seen")]) == 0
    assert Image.open(tmp_path / "seen/labels/photo.png").size == (61, 45)
    assert main(["autolabel", str(path), str(tmp_path / "photo.png"), "--out", str(tmp_path / "auto")]) in (0, 2)
    assert main(["evaluate", str(path), str(tmp_path / "data"), "--compare"]) == 2
    assert "shows no single scales" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: facts["label_space"]["classes"].pop(), "the file is damaged: it gives"),
        (lambda facts: facts["export"].update(scales=[2, 1, 0.5]), "the file is damaged: it gives"),
        (lambda facts: facts["export"].update(scales=[10**400, 1]), "is damaged"),
        (lambda facts: facts["export"].update(size=[float("inf"), 9]), "is damaged"),
        (lambda facts: facts.update(label_space=None), "is damaged"),
    ],
)
def test_facts_that_do_not_suit_the_graph_are_refused(exported, tmp_path, change, message):
    import onnx

    model = onnx.load(exported[0])
    entry = next(entry for entry in model.metadata_props if entry.key == "polyscale")
    facts = json.loads(entry.value)
    change(facts)
    entry.value = json.dumps(facts)
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(UserError, match=message):
        polyscale.load(tmp_path / "a.onnx", "cpu").predict(torch.rand(3, 33, 47))


@pytest.mark.slow
def test_video_and_background_take_the_file(exported, tmp_path):
    path, _, _ = exported
    frames = tmp_path / "frames"
    frames.mkdir()
    generator = np.random.default_rng(0)
    for number in range(3):
        pixels = generator.integers(0, 256, (46, 62, 3), np.uint8)
        Image.fromarray(pixels).save(frames / f"{number}.png")
    assert main(["video", str(path), str(frames), str(tmp_path / "seen.mp4")]) == 0
    assert main(["background", str(path), str(frames), str(tmp_path / "behind.mp4"), "--keep", "a"]) == 0
    for name in ("seen.mp4", "behind.mp4"):
        with av.open(str(tmp_path / name)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 3
    assert main(["background", str(path), str(frames / "0.png"), str(tmp_path / "one.png"), "--keep", "a"]) == 0
    assert Image.open(tmp_path / "one.png").size == (62, 46)


def test_an_onnx_file_of_somebody_else_ends_in_one_line(tmp_path, capsys):
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "theirs", [value], [other])
    theirs = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(theirs, tmp_path / "theirs.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    theirs.metadata_props.add(key="polyscale", value='{"export": {"scales": [2]}}')
    onnx.save(theirs, tmp_path / "damaged.onnx")
    for name, told in (
        ("theirs", "not written by polyscale export"),
        ("broken", "no readable"),
        ("damaged", "damaged"),
    ):
        with pytest.raises(UserError, match=told):
            load_checkpoint(tmp_path / f"{name}.onnx")
    Image.new("RGB", (40, 30)).save(tmp_path / "photo.png")
    assert main(["predict", str(tmp_path / "theirs.onnx"), str(tmp_path / "photo.png")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_file_that_differs_is_not_left(build, space, tmp_path, monkeypatch):
    def wrong(network, size):
        program = write_trace(network, size)
        for value in program.state_dict.values():
            if value.ndim == 4:
                value.neg_()
        return program

    write_trace = write._trace
    monkeypatch.setattr(write, "_trace", wrong)
    with pytest.raises(UserError, match=r"was not written, as it does not give what the network gives"):
        export_network(build("single"), space, tmp_path / "net.pt2", size=(32, 48))
    assert not list(tmp_path.iterdir())


def test_a_file_for_one_size(build, space, tmp_path):
    model = build("single")
    made = export_network(model, space, tmp_path / "net.onnx", size=(33, 48))
    assert made.agreement.labels == 1
    network = polyscale.load(tmp_path / "net.onnx", "cpu")
    assert network.predict(torch.rand(3, 33, 48)).labels.shape == (33, 48)
    with pytest.raises(UserError, match=r"images of 33x48 \(height x width\), got 32x48; export with --size dynamic"):
        network.predict(torch.rand(3, 32, 48))


@pytest.mark.slow
def test_a_program_of_torch(build, space, tmp_path):
    model = build("single")
    made = export_network(model, space, tmp_path / "net.pt2")
    assert made.agreement.labels == 1
    facts = {"polyscale.json": ""}
    program = torch.export.load(tmp_path / "net.pt2", extra_files=facts).module()
    assert json.loads(facts["polyscale.json"])["export"]["scales"] == [1.0]
    for height, width in SIZES:
        images = torch.rand(1, 3, height, width)
        with torch.no_grad():
            torch.testing.assert_close(program(images)[0], model(images).logits, rtol=1e-4, atol=1e-4)


def test_a_network_that_cannot_be_traced_is_refused(space, tmp_path):
    from torch import nn

    from polyscale.baselines import SingleScale
    from polyscale.views import View

    class Asks(nn.Module):
        def forward(self, images):
            return View(images if float(images.sum()) > 0 else -images)

    with pytest.raises(UserError, match=r"^the network cannot be exported \(.*\); try one size with --size HxW$"):
        export_network(SingleScale(Asks()), space, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_the_command_refuses_before_it_computes(tmp_path, capsys):
    target = tmp_path / "net.onnx"
    target.write_bytes(b"")
    for arguments, told in (
        (["streets", str(target)], "is there already"),
        (["streets", str(tmp_path / "net.engine")], "ends in .onnx or .pt2"),
        (["streets", str(tmp_path / "a.onnx"), "--size", "big"], "--size must be HEIGHTxWIDTH"),
        (["streets", str(tmp_path / "a.onnx"), "--scales", "2"], "must contain 1"),
    ):
        assert main(["export", *arguments]) == 2
        assert told in capsys.readouterr().err
    assert target.read_bytes() == b""


def test_sizes_to_try_hold_odd_ones_and_small_ones():
    assert sizes_to_try((5, 7), 0.5) == ((5, 7),) * 3
    tried = sizes_to_try(None, 0.25)
    assert min(tried) == (8, 13)
    assert any(height % 2 and width % 2 for height, width in tried)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["views", "average"])
def test_other_ways_of_combining_scales(kind, build, space, tmp_path):
    made = export_network(build(kind), space, tmp_path / "net.onnx")
    assert made.agreement.labels >= 0.9999
    assert made.agreement.relative < 1e-3


@pytest.mark.slow
def test_a_network_of_another_library(space, tmp_path):
    library = pytest.importorskip("segmentation_models_pytorch")
    from polyscale.baselines import AveragePooling
    from polyscale.models.foreign import ForeignSegmenter

    torch.manual_seed(0)
    theirs = library.Unet(encoder_name="resnet18", encoder_weights=None, classes=3).eval()
    made = export_network(AveragePooling(ForeignSegmenter(theirs), (0.5, 1.0)), space, tmp_path / "net.onnx")
    assert made.agreement.labels >= 0.9999
