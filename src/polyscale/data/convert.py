"""Labels of any form written as a plain folder: ``images/``, ``masks/`` and ``label_space.yaml``.

What tells the form is the source itself: a JSON file is COCO's, an XML file CVAT's, a folder with ``data.yaml`` and
``labels/`` YOLO's, and so on; see ``form_of``.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from PIL import Image

from polyscale.data.annotations.shapes import Drawing, Order, ShapesData
from polyscale.data.images import IMAGE_SUFFIXES, image_size
from polyscale.data.items import DataError, SegmentationData
from polyscale.data.known_spaces import known_space, known_spaces
from polyscale.data.masks import write_mask
from polyscale.data.parallel import Progress, in_parallel, pixels_of
from polyscale.errors import UserError
from polyscale.files import check_folder, inside, walk_files, write_atomically
from polyscale.labels import LabelClass, LabelSpace

__all__ = ["FORMS", "Form", "binary_space", "form_of", "named_space", "open_source", "write_plain"]

Form = Literal["coco", "yolo", "labelme", "cvat", "label-studio", "supervisely", "parquet", "arrays", "masks"]
FORMS: tuple[Form, ...] = (
    "coco",
    "yolo",
    "labelme",
    "cvat",
    "label-studio",
    "supervisely",
    "parquet",
    "arrays",
    "masks",
)
"""``masks`` is every data set that ``open_data`` opens."""


def form_of(source: Path) -> Form:
    """The form of labels in a file or folder.

    Raises:
        UserError: there is nothing.
    """
    if not source.exists():
        if source.parent.exists() and ":" in source.name:
            return "masks"  # FOLDER:SPLIT
        raise UserError(f"no such file or folder: {source}; name a JSON or XML file, or a folder")
    if source.is_file():
        suffix = source.suffix.lower()
        if suffix == ".json" and _begins_with_a_list(source):
            return "label-studio"
        forms: dict[str, Form] = {".json": "coco", ".xml": "cvat", ".parquet": "parquet"}
        return forms.get(suffix, "masks")
    return _form_of_folder(source)


def _form_of_folder(source: Path) -> Form:
    if (source / "meta.json").is_file() or ((source / "ann").is_dir() and (source / "img").is_dir()):
        return "supervisely"
    ours = (source / "label_space.yaml").is_file()
    if (source / "labels").is_dir() and (source / "data.yaml").is_file() and not ours:
        return "yolo"
    if (source / "masks").is_dir():
        arrays = next(walk_files(source / "masks", (".npy", ".npz", ".mat")), None)
        return "masks" if arrays is None else "arrays"
    if next(walk_files(source, (".parquet",)), None) is not None:
        return "parquet"
    file = next(walk_files(source, (".json",)), None)
    beside = file is not None and any((source / file).with_suffix(ending).is_file() for ending in IMAGE_SUFFIXES)
    return "labelme" if beside else "masks"


def _begins_with_a_list(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return file.read(1000).lstrip().startswith("[")
    except (OSError, UnicodeDecodeError):
        return False


def open_source(
    source: Path,
    form: Form | None = None,
    *,
    images: Path | None = None,
    classes: Sequence[str] = (),
    background: str | None = "background",
    order: Order | None = None,
    label_space: LabelSpace | None = None,
    columns: tuple[str, str] | None = None,
) -> dict[str | None, SegmentationData]:
    """Open labels of any form.

    Args:
        source: a file or folder.
        form: by default as ``form_of`` says.
        images: folder of the images, where annotations lie elsewhere.
        classes: only these, in this order.
        background: the class of pixels in no region; None ignores them.
        order: which region wins where two overlap; by default the smaller one, and the file's order in CVAT and
            Supervisely, whose regions are layers.
        label_space: what ids mean, where masks come without one.
        columns: of a parquet file, those of image and mask.

    Returns:
        Data sets by split; None is a set without splits.

    Raises:
        UserError: a file is damaged, or an option does not suit the form.
    """
    from polyscale.data.annotations.arrays import ArrayData, ParquetData
    from polyscale.data.annotations.coco import CocoData
    from polyscale.data.annotations.cvat import CvatData
    from polyscale.data.annotations.label_studio import LabelStudioData
    from polyscale.data.annotations.labelme import LabelMeData
    from polyscale.data.annotations.supervisely import SuperviselyData
    from polyscale.data.annotations.yolo import YoloData
    from polyscale.data.open import list_splits, open_data

    chosen = form or form_of(source)
    _check_options(chosen, images, classes, columns)
    drawing = Drawing(classes, background, order)
    match chosen:
        case "coco":
            return {None: CocoData(source, images, drawing)}
        case "cvat":
            return {None: CvatData(source, images, drawing)}
        case "label-studio":
            return {None: LabelStudioData(source, images, drawing)}
        case "labelme":
            return {None: LabelMeData(source, drawing)}
        case "supervisely":
            return {None: SuperviselyData(source, drawing)}
        case "yolo":
            return {None: YoloData(source, drawing)}
        case "arrays":
            return {None: ArrayData(source, _needed(label_space, source))}
        case "parquet":
            return {None: ParquetData(source, _needed(label_space, source), columns)}
        case "masks":
            names = list_splits(str(source))
            return {name: open_data(str(source), name, label_space) for name in names or (None,)}


def _check_options(form: Form, images: Path | None, classes: Sequence[str], columns: object) -> None:
    fitting = {
        "images": (images is not None, ("coco", "cvat", "label-studio")),
        "classes": (bool(classes), ("coco", "cvat", "label-studio", "labelme", "supervisely")),
        "columns": (columns is not None, ("parquet",)),
    }
    for name, (given, forms) in fitting.items():
        if given and form not in forms:
            raise UserError(f"--{name} is about {', '.join(forms)}, not about labels of form {form!r}; leave it out")


def _needed(label_space: LabelSpace | None, source: Path) -> LabelSpace:
    if label_space is None:
        raise UserError(
            f"{source} holds ids without names; say what they mean with --labels SPACE.yaml, or the name of one of "
            f"{', '.join(known_spaces())}, or --binary NAME for masks of 0 and 255"
        )
    return label_space


def binary_space(name: str) -> LabelSpace:
    """The label space of masks of 0 and 255 (or 1)."""
    return LabelSpace(
        name="binary",
        classes=(
            LabelClass(name="background", color=(0, 0, 0), ids=(0,)),
            LabelClass(name=name, color=(255, 255, 255), ids=(1, 255)),
        ),
    )


def named_space(name: str) -> LabelSpace:
    """A label space by the path of its YAML file, or by the name of one that comes with the package.

    Raises:
        UserError: there is none.
    """
    return known_space(name) if name in known_spaces() else LabelSpace.from_yaml(Path(name).expanduser())


def write_plain(
    data: SegmentationData,
    out: Path,
    split: str | None = None,
    link: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Write a data set as a plain folder; masks hold train ids, and images keep their files.

    Args:
        data: the data set.
        out: the folder.
        split: the sub-folder of ``images`` and ``masks``.
        link: make symbolic links to image files rather than copies.
        workers: number of threads.
        progress: called with (images done, images in all).

    Raises:
        UserError: an item cannot be read, or a file cannot be written.
    """
    check_folder(out)
    space = plain_space(data.label_space)
    if not (out / "label_space.yaml").exists():
        space.to_yaml(out / "label_space.yaml")
    elif LabelSpace.from_yaml(out / "label_space.yaml").digest != space.digest:
        raise UserError(f"{out} holds labels of other classes; choose another folder")
    below = "" if split is None else f"{split}/"

    def write(index: int) -> None:
        item = data.items[index]
        keeps_file = item.image.is_file() and item.image.suffix.lower() in IMAGE_SUFFIXES
        if keeps_file:
            labels, pixels = data.read_labels(index), None
        else:
            _, pixels, labels = data.read(index)
        if labels is None:
            raise DataError(f"{item.image} has no labels; leave it out, or label it", "missing")
        if keeps_file and labels.shape != (size := image_size(item.image)):
            raise DataError(
                f"the labels of {item.image} are {labels.shape[1]} x {labels.shape[0]} pixels, and the image "
                f"{size[1]} x {size[0]}; export its mask again at the image's size",
                "size",
            )
        suffix = item.image.suffix.lower() if keeps_file else ".png"
        target = inside(out / "images", f"{below}{item.name}{suffix}")
        if pixels is not None:
            with write_atomically(target) as temporary:
                Image.fromarray(pixels).save(temporary, format="PNG", compress_level=3)
        elif link:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.symlink_to(item.image.resolve())
        else:
            with write_atomically(target) as temporary:
                shutil.copyfile(item.image, temporary)
        write_mask(inside(out / "masks", f"{below}{item.name}.png"), labels, space)

    def pixels(index: int) -> int:
        return 2 * pixels_of(data.items[index].image)

    for _ in in_parallel(range(len(data)), write, 1 if isinstance(data, ShapesData) else workers, progress, pixels):
        pass


def plain_space(space: LabelSpace) -> LabelSpace:
    """The same classes with their train ids in the files; 255 is ignored."""
    classes = tuple(LabelClass(name=item.name, color=item.color, ids=(k,)) for k, item in enumerate(space.classes))
    return LabelSpace(name=space.name, classes=classes, ignore_ids=(255,) if len(classes) < 255 else ())
