"""Sound files of every kind that Polyscale reads, and what reads them."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from campaign import sound
from campaign.mutation import Form

__all__ = ["KINDS", "Kind"]


class Kind(NamedTuple):
    """One file that is damaged.

    Attributes:
        name: of the kind.
        group: files that the table counts together.
        target: the file, relative to its folder.
        build: writes the folder.
        read: reads the folder, as a command would.
        form: how the file is built.
        share: how many of these files for each of the others.
    """

    name: str
    group: str
    target: str
    build: Callable[[Path], None]
    read: Callable[[Path], Any]
    form: Form = "bytes"
    share: float = 1.0


def _read_image(path: Path) -> None:
    from polyscale.data.images import image_size, read_image

    size = image_size(path)
    assert read_image(path).shape[:2] == size


def _read_mask(path: Path) -> None:
    from polyscale.data.masks import read_index_mask

    sound.SPACE.encode(read_index_mask(path).ids)


def _read_colors(path: Path) -> None:
    from polyscale.data.masks import read_color_mask

    read_color_mask(path, sound.SPACE)


def _read_labels(source: Path) -> None:
    from polyscale.data.convert import open_source, write_plain

    with tempfile.TemporaryDirectory(dir=(source if source.is_dir() else source.parent).parent) as out:
        for split, data in open_source(source, label_space=sound.SPACE).items():
            data.read(0)
            write_plain(data, Path(out), split, link=True, workers=1)


def _read_data(root: Path) -> None:
    from polyscale.data import list_splits, open_data

    for split in list_splits(str(root)) or (None,):
        open_data(root, split).read(0)


def _read_recipe(path: Path) -> None:
    from polyscale.config import load_config
    from polyscale.training import ExperimentConfig

    load_config(ExperimentConfig, [path])


def _read_space(path: Path) -> None:
    from polyscale.labels import LabelSpace

    LabelSpace.from_yaml(path)


def _read_checkpoint(path: Path) -> None:
    from polyscale.models import load_checkpoint

    load_checkpoint(path)


def _read_exported(path: Path) -> None:
    import torch

    from polyscale.inference.predictor import load

    found = load(path, "cpu").predict(torch.rand(3, 32, 48))
    found.save(path.parent, "a")


def _read_tensors(path: Path) -> None:
    from polyscale.models.reference.files import read_tensors

    read_tensors(path)


def _read_start(path: Path) -> None:
    from polyscale.models.start import start_from

    start_from(sound.parts_of_a_run()[2].model, path)


def _read_failure(path: Path) -> None:
    from polyscale.training import replay

    replay(path)


def _read_resume(path: Path) -> None:
    from polyscale.training.resume import has_begun, restore_state

    config, accelerator, parts = sound.parts_of_a_run()
    has_begun(path)
    restore_state(path, config, parts, accelerator)


def _read_log(folder: Path) -> None:
    from polyscale.training.records import RunLog

    RunLog.read(folder / "log.jsonl")


def _read_autolabels(folder: Path) -> None:
    from polyscale.autolabel import read_confidence, read_description, read_manifest
    from polyscale.autolabel.records import read_lines
    from polyscale.data import ConfidenceMaps

    read_description(folder)
    list(read_manifest(folder))
    list(read_lines(folder))
    ConfidenceMaps(folder)
    read_confidence(folder, "a")


def _read_evaluation(folder: Path) -> None:
    from polyscale.report import find_stored

    find_stored([str(folder)])


def _read_report(folder: Path) -> None:
    from polyscale.report import find_stored, write_report

    write_report(folder / "page.html", find_stored([str(folder)]))


def _read_video(path: Path) -> None:
    import contextlib

    from polyscale.video.source import open_source

    with contextlib.closing(open_source(path)) as source:
        for _ in source.frames():
            pass


def _file(
    name: str,
    group: str,
    target: str,
    build: Callable[[Path], None],
    read: Callable[[Path], Any],
    form: Form = "bytes",
    share: float = 1.0,
) -> Kind:
    """A kind whose file is read by itself."""
    return Kind(name, group, target, build, lambda root: read(root / target), form, share)


def _images() -> list[Kind]:
    images = [
        _file(f"image {name}", "images", f"a{suffix}", write, _read_image, form)
        for name, suffix, write, form in sound.images()
    ]
    masks = [
        _file(f"mask {name}", "masks", f"a{suffix}", write, _read_mask, form)
        for name, suffix, write, form in sound.masks()
    ]
    name, suffix, write, form = sound.color_mask()
    return [*images, *masks, _file(name, "masks", f"a{suffix}", write, _read_colors, form)]


def _annotations() -> list[Kind]:
    group = "annotations"
    return [
        _file("COCO", group, "coco.json", sound.coco, _read_labels, "json", 2),
        Kind("LabelMe", group, "a.json", sound.labelme, _read_labels, "json", 2),
        _file("CVAT", group, "cvat.xml", sound.cvat, _read_labels, "text", 2),
        _file("Label Studio", group, "ls.json", sound.label_studio, _read_labels, "json"),
        Kind("YOLO lines", group, "labels/a.txt", sound.yolo, _read_labels, "text"),
        Kind("YOLO names", group, "data.yaml", sound.yolo, _read_labels, "text"),
        Kind("NumPy array", group, "masks/a.npy", sound.arrays, _read_labels),
        Kind("NumPy archive", group, "masks/b.npz", sound.arrays, _read_labels, "zip"),
        Kind("MATLAB", group, "masks/c.mat", sound.arrays, _read_labels),
        _file("parquet", group, "a.parquet", sound.parquet, _read_labels),
        Kind("Mapillary config", group, "config_v1.2.json", sound.mapillary, _read_data, "json"),
    ]


def _settings() -> list[Kind]:
    return [
        _file("recipe", "YAML", "recipe.yaml", sound.recipe, _read_recipe, "text", 3),
        _file("label space", "YAML", "label_space.yaml", sound.folder, _read_space, "text", 2),
        Kind("data config", "YAML", "data.yaml", sound.folder, _read_data, "text", 2),
        Kind("split file", "split files", "train.txt", sound.folder, _read_data, "text", 2),
    ]


def _networks() -> list[Kind]:
    group = "checkpoints"
    return [
        _file("checkpoint", group, "a.safetensors", sound.checkpoint, _read_checkpoint, "safetensors", 2),
        _file("start", group, "a.safetensors", sound.checkpoint, _read_start, "safetensors"),
        _file("ONNX", "ONNX", "a.onnx", sound.exported, _read_exported, "onnx", 2),
        _file("tensors", group, "a.pth", sound.tensors, _read_tensors, "zip", 2),
        _file("arrays of Paddle", group, "a.pdparams", sound.paddle, _read_tensors),
        _file("state of a run", group, "resume.pt", sound.state, _read_resume, "zip"),
        _file("failed step", group, "failure.pt", sound.failure, _read_failure, "zip", 0.15),
    ]


def _records() -> list[Kind]:
    journal = ".journal/labels-00000.jsonl"
    return [
        Kind("manifest", "manifests", "manifest.jsonl", sound.autolabels, _read_autolabels, "lines", 2),
        Kind("description", "manifests", "autolabel.json", sound.autolabels, _read_autolabels, "json", 2),
        Kind("confidence", "manifests", "confidence/a.png", sound.autolabels, _read_autolabels, "png"),
        Kind("journal", "journals", journal, sound.autolabels, _read_autolabels, "lines", 2),
        Kind("log of a run", "journals", "log.jsonl", sound.log, _read_log, "lines"),
        Kind("counts of an evaluation", "journals", "counts.npz", sound.evaluation, _read_evaluation, "zip"),
        Kind("scores of an evaluation", "evaluations", "scores.json", sound.evaluation, _read_report, "json"),
        Kind("recording of an evaluation", "evaluations", "recording.json", sound.evaluation, _read_report, "json"),
    ]


def _videos() -> list[Kind]:
    kinds = [
        _file(f"video {suffix}", "videos", f"a{suffix}", write, _read_video, share=0.5)
        for suffix, write in sound.videos()
    ]
    return [*kinds, _file("list of frames", "videos", "list.txt", sound.frames, _read_video, "text")]


KINDS = (*_images(), *_annotations(), *_settings(), *_networks(), *_records(), *_videos())
