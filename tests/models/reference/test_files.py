"""Files as the authors wrote them become ordinary checkpoints."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from polyscale.cli import main
from polyscale.data.known_spaces import known_space
from polyscale.errors import UserError
from polyscale.labels import LabelClass, LabelSpace
from polyscale.models import load_checkpoint, read_metadata
from polyscale.models.reference import import_reference
from polyscale.models.reference.files import read_tensors


def as_the_authors_save(state: dict[str, torch.Tensor], **more: Any) -> dict[str, Any]:
    wrapped = {f"module.{key}": value for key, value in state.items()}
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.01, "params": [0]}]}
    return {"state_dict": wrapped, "optimizer": optimizer, "epoch": 3, "command": "train.py --x"} | more


def test_a_checkpoint_becomes_one_that_predicts(
    reference_state: dict[str, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {"mean_iu": np.float64(0.86), "num_batches": np.int64(9), "ious": np.arange(19.0)}
    torch.save(as_the_authors_save(reference_state, **scores), tmp_path / "best.pth")
    out = tmp_path / "w18.safetensors"
    assert main(["import-reference", str(tmp_path / "best.pth"), str(out)]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(out)
    assert "hrnet_w18 with decoder ocr, method hierarchical, 19 classes of cityscapes" in said.err
    metadata = read_metadata(out)
    assert metadata.label_space == known_space("cityscapes")
    assert metadata.info["imported_from"] == "best.pth"
    model = load_checkpoint(out).model
    torch.testing.assert_close(model.segmenter.decoder.classifier.bias, reference_state["ocr.cls_head.bias"])
    assert not model.config.pad  # the authors' network, at every size
    Image.fromarray(np.full((33, 40, 3), 90, np.uint8)).save(tmp_path / "photo.png")
    assert main(["predict", str(out), str(tmp_path / "photo.png"), "--out", str(tmp_path / "p")]) == 0
    ids = {number for item in metadata.label_space.classes for number in item.ids}
    assert set(np.unique(Image.open(tmp_path / "p" / "labels" / "photo.png"))) <= ids


def test_files_of_old_pytorch_are_read(reference_state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    some = dict(list(reference_state.items())[:9])
    content = as_the_authors_save(some, mean_iu=np.float32(0.5))
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_tensors(tmp_path / "old.pth").keys() == {f"module.{key}" for key in some}


class Harmful:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def test_code_in_a_file_is_named_and_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}, "epoch": Harmful(tmp_path / "harmed")}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match="holds more than tensors") as caught:
        read_tensors(tmp_path / "bad.pth")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "harmed").exists()


class Huge:
    """A call that asks for eight gigabytes in a few bytes."""

    def __reduce__(self) -> Any:
        return bytearray, (2**33,)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs a system that limits memory")
@pytest.mark.parametrize("zipped", [True, False])
def test_a_small_file_does_not_take_all_memory(tmp_path: Path, zipped: bool) -> None:
    import resource

    path, before = tmp_path / "bomb.pth", resource.getrlimit(resource.RLIMIT_AS)
    torch.save({"a": torch.zeros(3), "b": Huge()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="asks for more memory than a file of its size needs"):
        read_tensors(path)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_a_member_whose_name_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    torch.save({"a": torch.zeros(3)}, path)
    content = path.read_bytes()
    place = content.rindex(b"data.pkl", 0, content.rindex(b"PK\x05\x06"))
    marked = bytearray(content[:place] + b"\xff\xfe\xfd\xfc" + content[place + 4 :])
    entry = marked.rindex(b"PK\x01\x02", 0, place)
    marked[entry + 9] |= 8  # its name is in UTF-8, says the flag
    path.write_bytes(marked)
    with pytest.raises(UserError, match=r"file\.pth is damaged"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("repeated", "a tensor that repeats its numbers"),
        ("missing", "no such file"),
        ("folder", "is a folder"),
        ("empty", "is no PyTorch checkpoint"),
        ("text", "is no PyTorch checkpoint"),
        ("no tensors", "holds no tensors by name"),
        ("zip", "a zip file that PyTorch did not write"),
        ("half", "begins like a zip file and has no list"),
        ("safetensors", r"must end in \.safetensors"),
        ("program", "a TorchScript program"),
        ("sparse", "a sparse, quantised or empty tensor"),
    ],
)
def test_other_files_are_one_line(tmp_path: Path, kind: str, message: str) -> None:
    path = tmp_path / "file.pth"
    match kind:
        case "zip" | "program":
            with zipfile.ZipFile(path, "w") as archive:
                for name in ("readme.txt",) if kind == "zip" else ("m/data.pkl", "m/constants.pkl"):
                    archive.writestr(name, "hello")
        case "half":
            torch.save({"a": torch.zeros(1000)}, path)
            path.write_bytes(path.read_bytes()[:2000])
        case "safetensors":
            save_file({"a": torch.zeros(3)}, path)
        case "sparse":
            torch.save({"a": torch.eye(3).to_sparse()}, path)
        case "repeated":
            torch.save({"a": torch.zeros(1).expand(2**40)}, path)
        case "folder":
            path.mkdir()
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("hello")
        case "no tensors":
            torch.save({"epoch": 3}, path)
    with pytest.raises(UserError, match=message) as caught:
        read_tensors(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_that_are_not_finite_are_refused(reference_state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    broken = reference_state | {"ocr.cls_head.bias": torch.full((19,), float("nan"))}
    torch.save(broken, tmp_path / "nan.pth")
    with pytest.raises(UserError, match=r"has values that are not finite: ocr\.cls_head\.bias$"):
        import_reference(tmp_path / "nan.pth", tmp_path / "nan.safetensors")
    assert not (tmp_path / "nan.safetensors").exists()


def test_tensors_that_fit_nowhere_are_named(reference_state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    first = "backbone.conv1.weight"
    classifier = "ocr.cls_head.weight"
    down = "ocr.ocr_distri_head.object_context_block.f_down.0.weight"
    for change, message in (
        ({f"trunk.{first.partition('.')[2]}": torch.zeros(64, 3, 3, 3)}, f"two tensors for one place: {first}"),
        ({classifier: torch.tensor(1.0)}, rf"{classifier} has the shape \(\), which is no convolution's"),
        ({classifier: torch.zeros(19)}, rf"{classifier} has the shape \(19,\)"),
        ({"backbone.transition1.0.0.weight": torch.tensor(1.0)}, "its backbone is none of those known here"),
        ({down: torch.zeros(4, 16, 1, 1)}, "cannot be built here: decoder.ocr_key_channels"),
    ):
        torch.save(reference_state | change, tmp_path / "a.pth")
        with pytest.raises(UserError, match=message) as caught:
            import_reference(tmp_path / "a.pth", tmp_path / "a.safetensors")
        assert str(tmp_path / "a.pth") in str(caught.value)
        assert "\n" not in str(caught.value)


def test_label_spaces_must_fit(reference_state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(reference_state, tmp_path / "a.pth")
    with pytest.raises(UserError, match="tells 19 classes apart, the label space 'mapillary-vistas-1.2' has 65"):
        import_reference(tmp_path / "a.pth", tmp_path / "a.safetensors", known_space("mapillary-vistas-1.2"))
    with pytest.raises(UserError, match="is a folder; name the file"):
        import_reference(tmp_path / "a.pth", tmp_path)
    heads = ("ocr.cls_head", "ocr.aux_head.2")
    few = {key: value[:4] if key.startswith(heads) else value for key, value in reference_state.items()}
    torch.save(few, tmp_path / "b.pth")
    with pytest.raises(UserError, match="tells 4 classes apart, and which they are it does not say"):
        import_reference(tmp_path / "b.pth", tmp_path / "b.safetensors")
    space = LabelSpace(classes=tuple(LabelClass(name=name, color=(1, 2, 3)) for name in "abcd"))
    space.to_yaml(tmp_path / "four.yaml")
    arguments = [str(tmp_path / "b.pth"), str(tmp_path / "b.safetensors")]
    assert main(["import-reference", *arguments, "--label-space", str(tmp_path / "four.yaml")]) == 0
    assert read_metadata(tmp_path / "b.safetensors").label_space.names == ("a", "b", "c", "d")
    assert main(["import-reference", *arguments, "--label-space", "vistas"]) == 2
    assert main(["import-reference", *arguments, "--label-space", str(tmp_path / "four.yaml"), "--scales", "1"]) == 2
