"""What auto-labelling costs beside the network: bytes an image, the time to encode and write, the time to find out
that 100,000 images are done.

Storage is measured on exact labels of drawn streets, and on what a teacher says of photos, all at 2048 x 1024. Smaller
photos are enlarged: either before the teacher sees them, so that it is shown objects of a size that it never met, or
after, so that its borders are smoother than those of a teacher of that size. A teacher that was trained at that size
lies between. Beside it stands a label PNG with an 8-bit probability PNG, both as Pillow writes them.
"""

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before numpy is imported: one core is one core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image
from record import save, show

import polyscale
from polyscale.autolabel import AutolabelConfig, autolabel, read_manifest
from polyscale.autolabel.confidence import level_palette, to_levels
from polyscale.autolabel.rules import Candidates
from polyscale.autolabel.source import find_source
from polyscale.autolabel.teacher import Teacher
from polyscale.data.images import read_image
from polyscale.data.masks import write_mask
from polyscale.data.png import encode_index_png
from polyscale.data.streets import STREETS, draw_scene
from polyscale.labels import IGNORE, LabelSpace

HEIGHT, WIDTH = 1024, 2048

Array = np.ndarray[Any, Any]
Look = Callable[[Path], tuple[Array, Array]]
"""Photo -> classes and confidence, both (H, W)."""


def enlarged(path: Path) -> Image.Image:
    """The middle of a photo at 2048 x 1024."""
    photo = Image.fromarray(read_image(path))
    factor = max(WIDTH / photo.width, HEIGHT / photo.height)
    photo = photo.resize((round(photo.width * factor), round(photo.height * factor)), Image.Resampling.BICUBIC)
    left, top = (photo.width - WIDTH) // 2, (photo.height - HEIGHT) // 2
    return photo.crop((left, top, left + WIDTH, top + HEIGHT))


def pillow_bytes(picture: Image.Image) -> int:
    """Size of a PNG with Pillow's own settings."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.tell()


def label_bytes(labels: Array, space: LabelSpace) -> int:
    """Size of a mask."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.png"
        write_mask(path, labels, space)
        return path.stat().st_size


def storage_exact(count: int) -> dict[str, float]:
    """Bytes of exact labels."""
    sizes = [label_bytes(draw_scene(0, index, (HEIGHT, WIDTH)).labels, STREETS) for index in range(count)]
    return {"labels": float(np.mean(sizes))}


def enlarged_before(teacher: Path, scales: tuple[float, ...]) -> Look:
    """The teacher sees a photo at 2048 x 1024."""
    network = Teacher(teacher, scales, False, "cpu", "float32")

    def look(photo: Path) -> tuple[Array, Array]:
        looked = network.look(np.asarray(enlarged(photo))[None].copy())
        return looked.classes[0], looked.confidence[0]

    return look


def enlarged_after(teacher: Path, scales: tuple[float, ...]) -> Look:
    """The teacher sees a photo at its own size, and its logits are enlarged to 2048 x 1024."""
    network = polyscale.load(teacher, "cpu").model

    @torch.inference_mode()
    def look(photo: Path) -> tuple[Array, Array]:
        pixels = torch.from_numpy(read_image(photo)).permute(2, 0, 1)[None].float() / 255
        logits = torch.nn.functional.interpolate(network(pixels, scales).logits, (HEIGHT, WIDTH), mode="bilinear")
        confidence, classes = logits.softmax(1)[0].max(0)
        return classes.numpy().astype(np.uint8), confidence.numpy()

    return look


def storage_predicted(look: Look, space: LabelSpace, photos: list[Path]) -> dict[str, dict[str, float]]:
    """Bytes of a teacher's labels, candidates and confidence, and of what the reference stores."""
    levels = AutolabelConfig(confidence=True).stored_levels
    rows: dict[str, list[int]] = {}
    kept: dict[str, list[float]] = {}
    for photo in photos:
        classes, confidence = look(photo)
        plain = Candidates(classes, None)
        for threshold in (0.5, 0.9):
            labels = np.where(confidence >= threshold, classes, np.uint8(IGNORE))
            rows.setdefault(f"labels at {threshold}", []).append(label_bytes(labels, space))
            kept.setdefault(str(threshold), []).append(float((labels != IGNORE).mean()))
        rows.setdefault("candidates", []).append(label_bytes(classes, space))
        for stride in (1, 2, 4):
            stored = to_levels(plain, confidence, levels, stride)
            rows.setdefault(f"confidence, stride {stride}", []).append(
                len(encode_index_png(stored, level_palette(len(levels))))
            )
        both = pillow_bytes(Image.fromarray(classes))
        both += pillow_bytes(Image.fromarray(np.rint(confidence * 255).astype(np.uint8)))
        rows.setdefault("label PNG and 8-bit probability PNG", []).append(both)
    sizes = {name: float(np.mean(values)) for name, values in rows.items()}
    total = sizes["labels at 0.5"] + sizes["candidates"] + sizes["confidence, stride 4"]
    return {
        "bytes": {**sizes, "all files at 0.5, stride 4": total},
        "kept_fraction": {name: float(np.mean(values)) for name, values in kept.items()},
    }


def throughput(teacher: Path, photos: list[Path], folder: Path, scales: tuple[float, ...]) -> dict[str, Any]:
    """Where the time of a run goes, labels alone and with confidence maps."""
    images = folder / "images"
    images.mkdir()
    for number, photo in enumerate(photos):
        enlarged(photo).save(images / f"{number:04}.jpg", quality=92)
    rows = {}
    for confidence in (False, True):
        config = AutolabelConfig(confidence=confidence, scales=scales)
        timing = autolabel(teacher, images, folder / f"out{confidence}", config, device="cpu", workers=1).timing
        rows["with confidence" if confidence else "labels alone"] = {
            "images": timing.num_images,
            "seconds": timing.total,
            "network_fraction": timing.network / timing.total,
            "waiting_for_images_fraction": timing.loading / timing.total,
            "waiting_for_files_fraction": timing.writing / timing.total,
            "encoding_beside_fraction": timing.encoding / timing.total,
        }
    return rows


def resume(teacher: Path, photo: Path, folder: Path, number: int) -> dict[str, float]:
    """Seconds to see that a finished folder of many images is finished."""
    images, out = folder / "images", folder / "out"
    images.mkdir(parents=True)
    Image.fromarray(read_image(photo)).resize((96, 48)).save(images / "0000000.png")
    settings: dict[str, Any] = {"device": "cpu", "config": AutolabelConfig()}
    autolabel(teacher, images, out, **settings)
    line = next(read_manifest(out))
    picture, mask = (images / "0000000.png").read_bytes(), (out / "masks" / "0000000.png").read_bytes()
    names = [f"{index:07}" for index in range(number)]
    with (out / "manifest.jsonl").open("w", encoding="utf-8") as manifest:
        for name in names:
            path = images / f"{name}.png"
            path.write_bytes(picture)
            (out / "masks" / f"{name}.png").write_bytes(mask)
            changed = {"image": name, "file": path.name, "modified": path.stat().st_mtime_ns}
            manifest.write(json.dumps({**line, **changed}) + "\n")
    (out / "images.txt").write_text("".join(f"{name}\n" for name in names))
    started = time.perf_counter()
    Teacher(teacher, None, False, "cpu", "float32")
    loading = time.perf_counter() - started
    started = time.perf_counter()
    find_source(images, out)
    listing = time.perf_counter() - started
    started, used = time.perf_counter(), time.process_time()
    summary = autolabel(teacher, images, out, **settings)
    total, used = time.perf_counter() - started, time.process_time() - used
    assert (summary.num_labelled, summary.num_done) == (0, number), summary
    manifest_bytes = (out / "manifest.jsonl").stat().st_size
    return {
        "images": number,
        "seconds": total - loading,
        "processor_seconds_with_the_teacher": used,
        "of_it_listing_images": listing,
        "loading_the_teacher": loading,
        "manifest_megabytes": manifest_bytes / 1e6,
    }


def tell(result: dict[str, Any]) -> None:
    """Print the figures."""
    show("Exact labels of drawn streets", ["kB"], [[f"{result['storage_exact']['labels'] / 1000:.1f}"]])
    before, after = (result["storage_predicted"][key]["bytes"] for key in ("enlarged before", "enlarged after"))
    rows = [[name, f"{before[name] / 1000:.1f}", f"{after[name] / 1000:.1f}"] for name in before]
    show("Kilobytes an image, 2048 x 1024", ["what", "enlarged before the teacher", "after it"], rows)
    show(
        "Share of the wall time, one thread",
        ["run", "seconds", "network %", "waits for images %", "waits for files %", "encoding beside it %"],
        [
            [name, f"{row['seconds']:.1f}", *(f"{100 * row[key]:.1f}" for key in row if key.endswith("fraction"))]
            for name, row in result["throughput"].items()
        ],
    )
    check = result["resume"]
    show(
        "Finding out that all is done",
        ["images", "seconds", "processor seconds"],
        [[check["images"], f"{check['seconds']:.1f}", f"{check['processor_seconds_with_the_teacher']:.1f}"]],
    )


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("teacher", type=Path, help="a checkpoint, for the figures of the issue with EfficientNet-Lite0")
    parser.add_argument("photos", type=Path, help="folder of photos that it can label")
    parser.add_argument("--count", type=int, default=10, help="photos and drawn scenes")
    parser.add_argument("--images", type=int, default=100_000, help="images of the resume check")
    parser.add_argument("--scales", default="0.5,1", help="of the teacher")
    parser.add_argument("--out", type=Path, default=None, help="folder of the result; by default benchmarks/results")
    arguments = parser.parse_args()
    scales = tuple(float(part) for part in arguments.scales.split(","))
    found = sorted(path for path in arguments.photos.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    photos = found[:: max(1, len(found) // arguments.count)][: arguments.count]
    space = polyscale.load(arguments.teacher, "cpu").label_space
    with tempfile.TemporaryDirectory() as folder:
        result = {
            "teacher": arguments.teacher.parent.name,
            "photos": len(photos),
            "size": [HEIGHT, WIDTH],
            "scales": list(scales),
            "resume": resume(arguments.teacher, photos[0], Path(folder) / "resume", arguments.images),
            "storage_exact": storage_exact(arguments.count),
            "storage_predicted": {
                "enlarged before": storage_predicted(enlarged_before(arguments.teacher, scales), space, photos),
                "enlarged after": storage_predicted(enlarged_after(arguments.teacher, scales), space, photos),
            },
            "throughput": throughput(arguments.teacher, photos, Path(folder), scales),
        }
        tell(result)
        save("autolabel-speed", result, arguments.out)  # before the many files are removed, which takes a while


if __name__ == "__main__":
    main()
