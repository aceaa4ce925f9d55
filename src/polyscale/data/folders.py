"""Plain folders of images and masks.

Three layouts, told apart by what is given and by what exists: the split as a sub-folder (``images/<split>/a/x.jpg``
with ``masks/<split>/a/x.png``, or ``<split>/images/…``), a split file over ``images/`` and ``masks/``, and file-name
templates.
"""

from pathlib import Path
from typing import Literal

from pydantic import field_validator, model_validator

from polyscale.data.bands import BandsConfig
from polyscale.data.file_data import FileData
from polyscale.data.file_kinds import FilesConfig
from polyscale.data.known_spaces import known_space, known_spaces
from polyscale.data.layout import Found, list_items, merge_splits, template_parts
from polyscale.data.palettes import check_some_palettes
from polyscale.errors import UserError, nearest
from polyscale.files import check_name
from polyscale.labels import LabelSpace

__all__ = ["FolderConfig", "MissingLabelSpaceError", "find_files", "folder_splits"]

LABEL_SPACE_FILE = "label_space.yaml"


class MissingLabelSpaceError(UserError):
    """A folder of images and masks that does not say what its ids mean."""


class FolderConfig(FilesConfig):
    """Images and masks in plain folders."""

    kind: Literal["folder"] = "folder"
    split: str | tuple[str, ...] | None = None
    """One split, several (names then begin with the split), or null for all images. Templates and a split file without
    ``{split}`` describe one set, which counts as ``train`` and has no other split.
    """
    image: str | None = None
    """Template of image files below the root, such as ``leftImg8bit/{split}/{name}_leftImg8bit.png``; by default
    ``images/{split}/{name}`` or what else exists. Without a suffix, any image suffix fits. ``{folder}`` stands for
    folders of any name, and becomes part of the images' names: ``{folder}/images/{name}``.
    """
    mask: str | None = None
    """Template of mask files, likewise."""
    split_file: str | None = None
    """Text file that lists a split, one name or path a line; relative to the root; may contain ``{split}``."""
    label_space: Path | None = None
    """YAML file of the label space, relative to the root or the working directory, or the name of one that comes with
    the package (``cityscapes``, ``mapillary-vistas-1.2``); by default ``label_space.yaml`` in the root.
    """
    color_coded: bool = False
    """Masks are in the colours of the label space's classes: RGB, or palette files whose colours count."""
    bands: BandsConfig | None = None
    """Images of other channels than RGB, or of 16 bits: which bands, and which range of values. null reads RGB."""
    ignore_colors: tuple[tuple[int, int, int], ...] = ()
    """Colours of such masks that mean *ignored*, besides black."""

    @field_validator("image", "mask")
    @classmethod
    def _has_name(cls, template: str | None) -> str | None:
        if template is not None and "{name}" not in template:
            raise ValueError("a file-name template needs {name}, for example images/{split}/{name}.jpg")
        return template

    @model_validator(mode="after")
    def _templates_match(self) -> "FolderConfig":
        if self.masks != "none" and (self.image is None) != (self.mask is None):
            given, other = ("image", "mask") if self.image else ("mask", "image")
            raise ValueError(f"the template {given} needs its counterpart {other}; give both or neither")
        if self.split == ():
            raise ValueError("split is an empty list; name at least one split or leave it out")
        return self

    def open(self, label_space: LabelSpace | None = None, lenient: bool = False) -> FileData:
        """Open the folder; a few palettes are compared, other pixels are not read before ``read``.

        Raises:
            UserError: a folder is missing or empty, an image has no mask, the label space is missing, palettes differ.
        """
        return self.data(find_files(self, lenient), _find_label_space(self, label_space), lenient)

    def data(self, found: Found, label_space: LabelSpace, lenient: bool = False) -> FileData:
        """The data set of files already found, read by a label space already known.

        Raises:
            UserError: palettes of its masks differ (not told where ``lenient``).
        """
        if not (self.color_coded or lenient):
            check_some_palettes(found.items, label_space, self.where)
        return FileData(
            found,
            label_space,
            self.where,
            self.masks == "required",
            self.color_coded,
            self.ignore_colors,
            self.folder,
            self.long_edge,
            self.bands,
        )

    def splits(self) -> tuple[str, ...]:
        """The splits that stand as folders or files where a split may be; none where one is named."""
        if self.split is not None:
            return ()
        root = self.root.expanduser()
        if self.image is None and self.split_file is None:
            return folder_splits(root)
        return _template_splits(root, self.split_file, self.image or "")

    @classmethod
    def recognised(cls, folder: Path) -> "FolderConfig | None":
        """A folder with ``images/``, or with ``<split>/images/``."""
        return cls(root=folder) if (folder / "images").is_dir() or folder_splits(folder) else None


def find_files(config: FolderConfig, lenient: bool = False) -> Found:
    """The items of a folder, without reading any of them and without needing a label space.

    Raises:
        UserError: a folder or split file is missing, there are no images, a pattern fits none, or (unless ``lenient``)
            an image has no mask where masks are required.
    """
    root = config.folder
    splits = config.split if isinstance(config.split, tuple) else (config.split,)
    return config.chosen(merge_splits({split: _find_split(config, root, split) for split in splits}), lenient)


def folder_splits(root: Path) -> tuple[str, ...]:
    """The splits that a plain folder offers, sorted; none where it is one set."""
    names: set[str] = set()
    images = root / "images"
    if images.is_dir():
        entries = [entry for entry in images.iterdir() if not entry.name.startswith(".")]
        masks = root / "masks"
        if all(entry.is_dir() for entry in entries):
            names = {entry.name for entry in entries if not masks.is_dir() or (masks / entry.name).is_dir()}
        if not names:
            names = {path.stem for path in (root / "splits").glob("*.txt")}
            names |= {name for name in ("train", "val", "test") if (root / f"{name}.txt").is_file()}
    elif root.is_dir():
        names = {
            entry.name for entry in root.iterdir() if (entry / "images").is_dir() and not entry.name.startswith(".")
        }
    return tuple(sorted(names))


def _template_splits(root: Path, split_file: str | None, image: str) -> tuple[str, ...]:
    """Splits by the folders or files that stand where a template has ``{split}`` as a whole part of a path."""
    before, found, after = (split_file or image).partition("{split}")
    if not found or not (before.endswith("/") or not before) or not (root / before).is_dir():
        return ()
    if split_file:
        return tuple(path.name.removesuffix(after) for path in (root / before).iterdir() if path.name.endswith(after))
    return tuple(path.name for path in (root / before).iterdir() if path.is_dir() and not path.name.startswith("."))


def _find_split(config: FolderConfig, root: Path, split: str | None) -> Found:
    image, mask, split_file = config.image, config.mask, config.split_file
    if split_file is not None and "{split}" in split_file and split is None:
        raise UserError(f"the split file {split_file!r} has {{split}}, but no split is given; set split")
    if image is None:
        image, mask, detected = _detect(root, split, split_file)
        split_file = split_file or detected
    elif split not in (None, "train") and "{split}" not in f"{image} {mask} {split_file}":
        raise UserError(f"{root} is one set without splits, so it has no {split!r}; leave split out (split: null)")
    path = None
    if split_file is not None:
        relative = Path(check_name(split_file.replace("{split}", split or ""), absolute=True)).expanduser()
        path = root / relative if (root / relative).is_file() else relative
        if not path.is_file():
            raise UserError(f"no such split file: {root / relative}")
    if mask is not None and config.masks == "optional" and not template_parts(root, mask, split, "mask")[0].is_dir():
        mask = None
    return list_items(root, image, mask if config.masks != "none" else None, split, path)


def _detect(root: Path, split: str | None, split_file: str | None) -> tuple[str, str, str | None]:
    """Templates of image and mask, and the split file, for a folder in one of the plain layouts."""
    whole = "images/{name}", "masks/{name}"
    if split is None or split_file is not None:
        if not (root / "images").is_dir() and (splits := folder_splits(root)):
            raise UserError(f"{root} has an images folder in each split; set split to one of {', '.join(splits)}")
        return *whole, None
    if (root / "images" / split).is_dir():
        return "images/{split}/{name}", "masks/{split}/{name}", None
    if (root / split / "images").is_dir():
        return "{split}/images/{name}", "{split}/masks/{name}", None
    for candidate in (f"splits/{split}.txt", f"{split}.txt"):
        if (root / candidate).is_file():
            return *whole, candidate
    splits = folder_splits(root)
    raise UserError(
        f"{root} has no split {split!r}{nearest(split, splits)}; splits there: {', '.join(splits) or 'none'} "
        "(a split is a folder images/<split>, a file <split>.txt, or what the templates image and mask say)"
    )


def _find_label_space(config: FolderConfig, fallback: LabelSpace | None) -> LabelSpace:
    root = config.root.expanduser()
    if config.label_space is not None:
        path = config.label_space.expanduser()
        if str(path) in known_spaces():
            return known_space(str(path))
        return LabelSpace.from_yaml(root / path if (root / path).is_file() else path)
    if (root / LABEL_SPACE_FILE).is_file():
        return LabelSpace.from_yaml(root / LABEL_SPACE_FILE)
    if fallback is not None:
        return fallback
    raise MissingLabelSpaceError(
        f"{root} has no {LABEL_SPACE_FILE}: write one with 'classes: [{{name: road, color: [128, 64, 128], ids: [0]}}, "
        f"…]' and 'ignore_ids: [255]', or let `polyscale data check {root}` suggest one from the masks"
    )
