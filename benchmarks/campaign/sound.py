"""Small sound files: each function writes one kind into a folder."""

import json
import pickle
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from campaign.mutation import Form
from polyscale.config import dump_yaml, validate
from polyscale.labels import LabelClass, LabelSpace

__all__ = ["SPACE", "recipe_values", "squares"]

SPACE = LabelSpace(
    name="squares", classes=tuple(LabelClass(name=n, color=(80 * i, 99, 200)) for i, n in enumerate("abc"))
)
Writer = Callable[[Path], None]
File = tuple[str, str, Writer, Form]


def _pixels(height: int = 48, width: int = 64) -> np.ndarray[Any, Any]:
    y, x = np.mgrid[:height, :width]
    return np.stack([4 * x, 5 * y, 2 * (x ^ y)], axis=2).astype(np.uint8)


def _ids(height: int = 48, width: int = 64) -> np.ndarray[Any, Any]:
    return (_pixels(height, width)[..., 0] // 100 % 3).astype(np.uint8)


def _saved(image: Image.Image, suffix: str, options: dict[str, Any], folder: Path) -> None:
    image.save(folder / f"a{suffix}", **options)


def images() -> Iterator[File]:
    """Name, suffix, writer and form of images."""
    color, gray = Image.fromarray(_pixels()), Image.fromarray(_pixels()[..., 0])
    bands = Image.fromarray(np.dstack([_pixels(), _pixels()[..., :1]]), "RGBA")
    deep = Image.fromarray(_pixels()[..., 0].astype(np.uint16) * 200)
    turned = Image.Exif()
    turned[274] = 6
    geo = TiffImagePlugin.ImageFileDirectory_v2()
    geo[33550] = (0.5, 0.5, 0.0)
    geo[33922] = (0.0, 0.0, 0.0, 440720.0, 3751320.0, 0.0)
    geo[34735] = (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32611)
    geo.tagtype |= {33550: 12, 33922: 12, 34735: 3}
    rows: tuple[tuple[str, str, Image.Image, dict[str, Any]], ...] = (
        ("JPEG", ".jpg", color, {"exif": turned}),
        ("progressive JPEG", ".jpeg", color, {"progressive": True}),
        ("PNG", ".png", color, {}),
        ("PNG with palette", ".png", color.quantize(16), {}),
        ("PNG of 16 bits", ".png", deep, {}),
        ("WebP", ".webp", color, {}),
        ("lossless WebP", ".webp", color, {"lossless": True}),
        ("GIF", ".gif", color.quantize(32), {"save_all": True, "append_images": [gray.quantize(32)]}),
        ("BMP", ".bmp", color, {}),
        ("BMP with palette", ".bmp", gray.quantize(16), {}),
        ("TIFF", ".tif", color, {}),
        ("TIFF deflate", ".tif", gray, {"compression": "tiff_adobe_deflate"}),
        ("TIFF LZW", ".tif", color, {"compression": "tiff_lzw"}),
        ("TIFF JPEG", ".tif", color, {"compression": "jpeg"}),
        ("TIFF G4", ".tif", gray.convert("1"), {"compression": "group4"}),
        ("GeoTIFF", ".tif", color, {"tiffinfo": geo}),
        ("GeoTIFF of four bands", ".tiff", bands, {"tiffinfo": geo, "compression": "packbits"}),
    )
    for name, suffix, image, options in rows:
        yield name, suffix, partial(_saved, image, suffix, options), "png" if suffix == ".png" else "bytes"


def masks() -> Iterator[File]:
    """The same of masks."""
    palette = Image.fromarray(_ids(), "P")
    palette.putpalette(SPACE.palette.tobytes())
    gray = Image.fromarray(_ids())
    rows: tuple[tuple[str, str, Image.Image, dict[str, Any]], ...] = (
        ("palette", ".png", palette, {"bits": 2}),
        ("grey", ".png", gray, {}),
        ("16 bits", ".png", Image.fromarray(_ids().astype(np.uint16)), {}),
        ("1 bit", ".png", gray.point(lambda value: 255 * (value > 0)).convert("1"), {}),
        ("GeoTIFF", ".tif", gray, {"compression": "tiff_adobe_deflate"}),
        ("BMP", ".bmp", gray, {}),
    )
    for name, suffix, image, options in rows:
        yield name, suffix, partial(_saved, image, suffix, options), "png" if suffix == ".png" else "bytes"


def color_mask() -> File:
    """The same of a mask in colours."""
    return "mask in colours", ".png", partial(_saved, Image.fromarray(SPACE.palette[_ids()]), ".png", {}), "png"


def squares(root: Path, counts: tuple[int, int] = (8, 3), size: tuple[int, int] = (40, 56)) -> None:
    """A plain folder with the splits train and val."""
    rng = np.random.default_rng(0)
    for split, count in zip(("train", "val"), counts, strict=True):
        for index in range(count):
            labels = np.zeros(size, np.uint8)
            for label in (1, 2):
                y, x = rng.integers(0, 24, 2)
                labels[y : y + 14, x : x + 18] = label
            labels[: 2 * index % 16] = 255
            image = (labels.clip(0, 2)[..., None] * 90 + rng.integers(0, 40, (*size, 3))).astype(np.uint8)
            for kind, array in (("images", image), ("masks", labels)):
                path = root / kind / split / f"{index:03}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    SPACE.to_yaml(root / "label_space.yaml")


def folder(root: Path) -> None:
    """A data set with ``data.yaml``, a split file and a label space."""
    squares(root, (3, 1))
    config = {"image": "images/train/{name}.png", "mask": "masks/train/{name}.png", "split_file": "train.txt"}
    (root / "data.yaml").write_text(dump_yaml({"kind": "folder", "include": ["0*"], **config}))
    (root / "train.txt").write_text("# names\n000\nimages/train/001.png\tmasks/train/001.png\n002 # the last\n")


def recipe_values(root: Path, **training: Any) -> dict[str, Any]:
    """A recipe that trains a tiny network on ``squares`` in seconds."""
    return {
        "name": "squares",
        "seed": 3,
        "data": {kind: {"kind": "folder", "root": str(root), "split": kind} for kind in ("train", "val")},
        "model": {
            "backbone": {"name": "tiny"},
            "decoder": {"kind": "light", "light_channels": 8, "dropout": 0.1},
            "multiscale": {"attention": {"channels": 4}},
        },
        "augment": {"crop": [24, 32]},
        "sampling": {"fraction": 0.5},
        "loss": {"main": "cross_entropy"},
        "training": {
            "epochs": 3,
            "batch_size": 2,
            "num_workers": 0,
            "log_every": 1,
            "tracker": "none",
            "ema_decay": 0.9,
            "optimizer": {"kind": "adamw", "lr": 2e-3},
            **training,
        },
        "validation": {"every": 2, "scales": [0.5, 1]},
    }


def recipe(root: Path) -> None:
    """A recipe."""
    (root / "recipe.yaml").write_text(dump_yaml(recipe_values(root)))


def network(path: Path, seed: int = 0) -> None:
    """A checkpoint of the smallest network, whose classes differ from pixel to pixel."""
    import torch

    from polyscale.models import ModelConfig, build_model, save_checkpoint

    torch.manual_seed(seed)
    model = build_model(validate(ModelConfig, recipe_values(path)["model"]), SPACE).eval()
    classifier = model.segmenter.decoder.classifier
    with torch.no_grad():
        classifier.weight.mul_(200)
        classifier.bias.zero_()
        classifier.bias.sub_(model(torch.rand(2, 3, 32, 48)).logits.mean((0, 2, 3)))
    save_checkpoint(path, model, SPACE, {"epoch": 3})


def exported(root: Path) -> None:
    """An exported network."""
    from polyscale.export import export_network
    from polyscale.models import load_checkpoint

    network(root / "a.safetensors")
    found = load_checkpoint(root / "a.safetensors")
    export_network(found.model, found.label_space, root / "a.onnx", verify=False)


def checkpoint(root: Path) -> None:
    """A checkpoint."""
    network(root / "a.safetensors")


def _state() -> dict[str, Any]:
    import torch

    return {f"layer.{k}.weight": torch.arange(12.0).reshape(3, 4) + k for k in range(6)}


def tensors(root: Path) -> None:
    """A state dict as PyTorch saves it."""
    import torch

    torch.save({"epoch": 3, "best": np.float64(0.5), "state_dict": _state()}, root / "a.pth")


def paddle(root: Path) -> None:
    """A pickle of arrays."""
    arrays = {name: value.numpy() for name, value in _state().items()}
    (root / "a.pdparams").write_bytes(pickle.dumps(arrays, protocol=2))


def _trained(root: Path, **changes: Any) -> None:
    from polyscale.training import ExperimentConfig, train

    squares(root / "data", (4, 1))
    values = recipe_values(root / "data", epochs=1, **changes)
    train(validate(ExperimentConfig, values), root)


@cache
def parts_of_a_run() -> Any:
    """Configuration, accelerator and parts to which ``state`` belongs."""
    import tempfile

    from accelerate import Accelerator

    from polyscale.training import ExperimentConfig
    from polyscale.training.listener import Silent
    from polyscale.training.setup import prepare

    with tempfile.TemporaryDirectory(prefix="polyscale-fuzz-") as place:
        root = Path(place)
        squares(root / "data", (4, 1))
        config = validate(ExperimentConfig, recipe_values(root / "data", epochs=1))
        accelerator = Accelerator(cpu=True)
        return config, accelerator, prepare(config, root, False, accelerator, Silent())


def state(root: Path) -> None:
    """What a run is continued from."""
    from polyscale.training.resume import Progress, save_state

    config, accelerator, parts = parts_of_a_run()
    save_state(root / "resume.pt", config, parts, Progress(1, 0.25), accelerator)


def failure(root: Path) -> None:
    """A step whose loss was not finite."""
    import contextlib

    from polyscale.errors import UserError

    with contextlib.suppress(UserError):
        _trained(root, optimizer={"kind": "sgd", "lr": 1e30})


def log(root: Path) -> None:
    """The log of a run."""
    lines = [{"step": k, "loss": {"total": 1 / k, "main": 1 / k}, "epoch": k / 4, "lr": 1e-3} for k in range(1, 9)]
    (root / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def autolabels(root: Path) -> None:
    """A finished folder of auto-labels, and a journal in it."""
    import tempfile

    from polyscale.autolabel import AutolabelConfig, autolabel

    with tempfile.TemporaryDirectory(prefix="polyscale-fuzz-") as place:
        source = Path(place) / "images"
        source.mkdir()
        for name in ("a", "b", "c"):
            Image.fromarray(_pixels(24, 32)).save(source / f"{name}.png")
        (source / "d.png").write_bytes(b"broken")
        network(Path(place) / "teacher.safetensors")
        autolabel(
            Path(place) / "teacher.safetensors", source, root, AutolabelConfig(confidence=True), device="cpu", workers=1
        )
    (root / ".journal").mkdir()
    journal = (root / "manifest.jsonl").read_bytes() + (root / "failures.jsonl").read_bytes()
    (root / ".journal" / "labels-00000.jsonl").write_bytes(journal)


def evaluation(root: Path) -> None:
    """An evaluation with all that a report needs."""
    import tempfile

    from polyscale.data import open_data
    from polyscale.evaluation import Recording, evaluate
    from polyscale.models import load_checkpoint

    with tempfile.TemporaryDirectory(prefix="polyscale-fuzz-") as place:
        squares(Path(place), (1, 2))
        network(Path(place) / "a.safetensors")
        found = load_checkpoint(Path(place) / "a.safetensors")
        data = open_data(place, "val")
        evaluate(
            found.model, data, (0.5, 1), compare=True, label_space=SPACE, recording=Recording(root, 2, False)
        ).write(root)


def _picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_pixels(30, 40)).save(path)


_RING = [[4.0, 2.0], [20.5, 3.0], [18.0, 22.0], [5.0, 20.0]]


def _packed(counts: list[int]) -> str:
    """Run lengths as COCO packs them: five bits a character, the sixth for more."""
    text = ""
    for number, count in enumerate(counts):
        value, more = count - (counts[number - 2] if number > 2 else 0), True
        while more:
            bits, value = value & 0x1F, value >> 5
            more = value != (-1 if bits & 0x10 else 0)
            text += chr(bits + 0x20 * more + 48)
    return text


def coco(root: Path) -> None:
    """COCO's JSON: polygons, run lengths, compressed run lengths."""
    _picture(root / "a.png")
    flat = [number for corner in _RING for number in corner]
    regions: list[Any] = [
        [flat],
        {"size": [30, 40], "counts": [100, 200, 900]},
        {"size": [30, 40], "counts": _packed([100, 200, 900])},
        [flat, [1, 1, 9, 1, 9, 9]],
    ]
    content = {
        "info": {"year": 2020},
        "images": [{"id": 1, "file_name": "a.png", "height": 30, "width": 40}],
        "annotations": [
            {
                "id": k,
                "image_id": 1,
                "category_id": 1 + k % 2,
                "segmentation": region,
                "bbox": [1, 2, 3, 4],
                "iscrowd": 0,
            }
            for k, region in enumerate(regions)
        ],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}],
    }
    (root / "coco.json").write_text(json.dumps(content))


def labelme(root: Path) -> None:
    """LabelMe's JSON."""
    _picture(root / "a.png")
    shapes = [
        {"label": "car", "points": _RING, "shape_type": "polygon", "group_id": None},
        {"label": "bus", "points": _RING[:2], "shape_type": "rectangle"},
        {"label": "ball", "points": _RING[:2], "shape_type": "circle"},
    ]
    content = {"version": "5", "shapes": shapes, "imagePath": "a.png", "imageHeight": 30, "imageWidth": 40}
    (root / "a.json").write_text(json.dumps(content, indent=1))


def cvat(root: Path) -> None:
    """CVAT's XML."""
    _picture(root / "images" / "a.png")
    points = ";".join(f"{x},{y}" for x, y in _RING)
    (root / "cvat.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task><labels>'
        "<label><name>car</name><color>#ff0000</color></label><label><name>bus</name><color>#00ff00</color></label>"
        '</labels></task></meta>\n<image id="0" name="a.png" width="40" height="30">\n'
        f'<polygon label="car" points="{points}" z_order="1"/>\n'
        '<box label="bus" xtl="2" ytl="1" xbr="6" ybr="5" z_order="0"/>\n'
        '<mask label="bus" rle="2,5,3,2" left="3" top="2" width="4" height="3"/>\n</image></annotations>\n'
    )


def label_studio(root: Path) -> None:
    """Label Studio's JSON."""
    _picture(root / "a.png")
    value = {"points": [[10, 20], [60, 20], [40, 80.5]], "polygonlabels": ["car"], "closed": True}
    region = {"type": "polygonlabels", "value": value, "original_width": 40, "original_height": 30}
    tasks = [{"id": 1, "data": {"image": "/data/local-files/?d=x/a.png"}, "annotations": [{"result": [region]}]}]
    (root / "ls.json").write_text(json.dumps(tasks))


def yolo(root: Path) -> None:
    """YOLO's lines."""
    _picture(root / "images" / "a.png")
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").write_text("0 0.1 0.1 0.6 0.1 0.4 0.8\n1 0.5 0.5 0.9 0.5 0.9 0.9 0.5 0.9\n")
    (root / "data.yaml").write_text("path: .\ntrain: images\nnames:\n  0: car\n  1: bus\n")


def arrays(root: Path) -> None:
    """Masks as arrays."""
    from scipy.io import savemat

    for name in "abc":
        _picture(root / "images" / f"{name}.png")
    (root / "masks").mkdir()
    ids = _ids(30, 40)
    np.save(root / "masks" / "a.npy", ids)
    np.savez_compressed(root / "masks" / "b.npz", mask=ids)
    savemat(root / "masks" / "c.mat", {"labels": ids, "note": "text"}, do_compression=True)


def parquet(root: Path) -> None:
    """A table with images and masks in it."""
    import pyarrow as pa
    from pyarrow import parquet as files

    _picture(root / "a.png")
    Image.fromarray(_ids(30, 40)).save(root / "b.png")
    cells = [{"bytes": (root / name).read_bytes(), "path": name} for name in ("a.png", "b.png")]
    files.write_table(pa.table({"image": [cells[0]] * 3, "label": [cells[1]] * 3}), root / "a.parquet")


def mapillary(root: Path) -> None:
    """Mapillary Vistas with its config file."""
    images, labels = root / "training" / "images", root / "training" / "v1.2" / "labels"
    for place in (images, labels):
        place.mkdir(parents=True)
    Image.fromarray(_pixels(30, 40)).save(images / "a.jpg")
    Image.fromarray(_ids(30, 40)).save(labels / "a.png")
    rows = [
        {"name": f"x--{n}", "readable": n, "color": [9 * k, 8, 7], "evaluate": n != "c"} for k, n in enumerate("abcd")
    ]
    (root / "config_v1.2.json").write_text(json.dumps({"version": 1.1, "labels": rows}))


def film(path: Path, codec: str, num_frames: int = 12, size: tuple[int, int] = (48, 64)) -> None:
    """A short video."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.height, stream.width = size
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.roll(_pixels(*size), number, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def videos() -> Iterator[tuple[str, Writer]]:
    """Suffixes and writers of videos."""
    for suffix, codec in ((".mp4", "mpeg4"), (".mkv", "libx264"), (".avi", "mpeg4"), (".gif", "gif")):
        yield suffix, partial(lambda folder, s, c: film(folder / f"a{s}", c), s=suffix, c=codec)


def frames(root: Path) -> None:
    """A list of pictures."""
    for name in "abc":
        _picture(root / f"{name}.png")
    (root / "list.txt").write_text("# frames\na.png\nb.png\nc.png\n")
