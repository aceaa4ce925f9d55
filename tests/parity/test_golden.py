"""Stored outputs of the authors' implementation, through the import of their checkpoints."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_cases import compare
from golden_rule import GoldenError, input_of, labels_of

from parity import check_case, main

QUICK = ("rmi_2x19x33x47", "rmi_2x19x64x64", "deepv3plus_r50")
SLOW = (
    "attnscale_r50b_05_10_20",
    "mscale_r50_two",
    "mscale_r50_n_05_10_20",
    "ocrnet_hrnet",
    "ocrnet_hrnet_mscale_two",
    "ocrnet_hrnet_mscale_n_05_10_20",
)


@pytest.mark.parametrize("case", [*QUICK, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW)])
def test_stored_outputs_are_met(golden: Path, case: str) -> None:
    error, where = check_case(golden, case)
    assert error <= 1, where


def manifest_of(golden: Path, case: str) -> dict:
    return json.loads((golden / "manifests" / f"{case}.json").read_text())


def test_inputs_and_labels_of_all_cases_have_their_fingerprints(golden: Path) -> None:
    """Also of those whose outputs are not in the folder."""
    for path in sorted((golden / "manifests").glob("*.json")):
        manifest = json.loads(path.read_text())
        assert input_of(manifest).shape == tuple(manifest["input"]["shape"])
        if "labels" in manifest:
            assert (labels_of(manifest) == 255).sum() == manifest["labels"]["ignored_pixels"]


def test_a_wrong_fingerprint_is_told(golden: Path) -> None:
    manifest = manifest_of(golden, "rmi_2x19x33x47")
    with pytest.raises(GoldenError, match="the input's sha256"):
        input_of(manifest | {"input": manifest["input"] | {"rng_string": "input:other"}})


def folder_with(golden: Path, tmp_path: Path, case: str) -> Path:
    (tmp_path / "manifests").mkdir()
    shutil.copy(golden / f"{case}.npz", tmp_path)
    shutil.copy(golden / "manifests" / f"{case}.json", tmp_path / "manifests")
    return tmp_path


def test_the_runner_passes_and_fails(golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = "rmi_2x19x33x47"
    folder = folder_with(golden, tmp_path, case)
    assert main([str(folder)]) == 0
    assert "1 of 1 cases pass" in capsys.readouterr().out
    with np.load(folder / f"{case}.npz") as file:
        arrays = dict(file)
    np.savez(folder / f"{case}.npz", **arrays | {"grad_rmi": arrays["grad_rmi"] * (1 + 1e-4)})
    shutil.copy(golden / "deepv3plus_r50.npz", folder)  # without its manifest
    assert main([str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "fail" in lines[0]
    assert "manifests/deepv3plus_r50.json" in lines[0]
    assert "fail  grad_rmi" in lines[1]
    assert lines[2].startswith("0 of 2 cases pass")


def test_the_folder_named_open_has_the_manifests_of_its_neighbour(golden: Path, tmp_path: Path) -> None:
    case = "rmi_2x19x33x47"
    (tmp_path / "open").mkdir()
    folder_with(golden, tmp_path / "open", case)
    (tmp_path / "heldout").mkdir()
    (tmp_path / "open" / f"{case}.npz").rename(tmp_path / "heldout" / f"{case}.npz")
    assert main([str(tmp_path / "heldout")]) == 0


def test_a_case_that_cannot_be_built_fails(golden: Path, tmp_path: Path) -> None:
    case = "deepv3plus_r50"
    folder = folder_with(golden, tmp_path, case)
    manifest = manifest_of(golden, case)
    for change, reason in (
        ({"state_dict": manifest["state_dict"][:-1]}, "sha256"),
        ({"kind": "video"}, "kind 'video' is not known"),
        ({"outputs": {}}, "not both in the npz and in the manifest"),
    ):
        (folder / "manifests" / f"{case}.json").write_text(json.dumps(manifest | change))
        error, where = check_case(folder, case)
        assert error == np.inf
        assert reason in where


@pytest.mark.parametrize("kind", ["half", "empty", "not a manifest", "nothing to compare"])
def test_a_damaged_case_fails_and_the_others_are_run(
    golden: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    case = "rmi_2x19x33x47"
    folder = folder_with(golden, tmp_path, case)
    path, manifest = folder / "another.npz", folder / "manifests" / "another.json"
    data = (folder / f"{case}.npz").read_bytes()
    values: Any = manifest_of(golden, case)
    if kind == "half":
        data = data[: len(data) // 2]
    elif kind == "empty":
        data = b""
    elif kind == "not a manifest":
        values = []
    path.write_bytes(data)
    if kind == "nothing to compare":
        np.savez(path, grad_norms=np.zeros(2))
        values = values | {"outputs": {"grad_norms": {}}}
    manifest.write_text(json.dumps(values))
    assert main([str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("another")
    assert "fail" in lines[0]
    assert lines[2].startswith("1 of 2 cases pass")


def test_a_folder_without_cases_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "no CASE.npz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "given", "golden_value", "passes"),
    [
        ("pred", [1.0, 2.00009], [1.0, 2.0], True),
        ("pred", [1.0, 2.00011], [1.0, 2.0], False),
        ("grad_rmi", [0.0, 0.0], [0.0, 0.0], True),
        ("grad_rmi", [0.0, 1.1e-5], [0.0, 0.0], False),
        ("loss_bce", 0.0, 0.0, True),
        ("loss_rmi", 36.00004, 36.0, False),
        ("loss_fp64", -2.0, -2.00001, True),
        ("grad_norms_fp64", [1.0, 1e-15], [1.0, 3e-16], True),
        ("grad_norms_fp64", [1.0, 1e-3], [1.0, 1.1e-3], False),
        ("pred", [np.nan], [1.0], False),
        ("grad_rmi", [1.0], [np.nan], False),
        ("after:x", [1.0, 2.0], [1.0, np.inf], False),
        ("pred", [1.0, 1.0], [1.0], False),
    ],
)
def test_tolerances(name: str, given: object, golden_value: object, passes: bool) -> None:
    assert (compare(name, np.array(given), np.array(golden_value)) <= 1) == passes
