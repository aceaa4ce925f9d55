"""From a config, a YAML file or a mere folder to a data set.

Unusual here: the kinds of data sets are a union told apart by ``kind``, so that a recipe's ``data`` section is checked
like everything else; and a path is enough where a folder has a layout that can be recognised, or a ``data.yaml`` that
describes it.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from polyscale.config import Config, read_yaml, validate
from polyscale.data.camvid import CamVidConfig, camvid_splits, open_camvid
from polyscale.data.folders import FolderConfig, folder_splits, open_folder
from polyscale.data.items import Item, Sample, SegmentationData
from polyscale.errors import UserError
from polyscale.labels import LabelSpace

__all__ = [
    "DataConfig",
    "StreetsConfig",
    "StreetsData",
    "data_config",
    "list_splits",
    "open_data",
    "path_as_config",
]

DATA_FILE = "data.yaml"
_DEFAULTS = {name: field.default for name, field in FolderConfig.model_fields.items()}

_STREETS_SPLITS = ("train", "val", "test")


class StreetsConfig(Config):
    """Drawn streets, drawn when they are read.

    Attributes:
        split: scenes of different splits are never the same.
        count: number of scenes.
        size: height and width in pixels.
        seed: another seed draws other streets.
    """

    kind: Literal["streets"] = "streets"
    split: Literal["train", "val", "test"] = "train"
    count: int = Field(default=200, ge=1, le=1_000_000)
    size: tuple[int, int] = (256, 512)
    seed: int = Field(default=0, ge=0)


def path_as_config(value: Any) -> Any:
    """What a recipe may write in place of a data set's config, ``auto`` or ``streets:val``, as that config."""
    return data_config(value) if isinstance(value, str) else value


DataConfig = Annotated[
    FolderConfig | CamVidConfig | StreetsConfig, Field(discriminator="kind"), BeforeValidator(path_as_config)
]
"""The configuration of a data set, told apart by ``kind``: folder, camvid or streets; or the path of one."""

_KINDS: dict[str, type[FolderConfig | CamVidConfig | StreetsConfig]] = {
    "folder": FolderConfig,
    "camvid": CamVidConfig,
    "streets": StreetsConfig,
}


class StreetsData:
    """Drawn streets as a data set; nothing is kept, and no file exists at the items' paths."""

    def __init__(self, config: StreetsConfig) -> None:
        # Imported here because most who read folders never draw.
        from polyscale.data.streets import STREETS, StreetsSource, split_starts

        start = split_starts(dict.fromkeys(_STREETS_SPLITS, 0))[config.split]
        self._source = StreetsSource(config.seed, config.count, config.size, start)
        self.label_space: LabelSpace = STREETS
        folder = Path("streets") / config.split
        self.items = tuple(
            Item(name, folder / "images" / f"{name}.png", folder / "masks" / f"{name}.png")
            for name in self._source.names
        )

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: int) -> Sample:
        """Draw one scene."""
        name, image, labels = self._source.read(index)
        return Sample(name, image, np.asarray(labels, dtype=np.uint8))


def open_data(
    where: str | Path | FolderConfig | CamVidConfig | StreetsConfig,
    split: str | None = None,
    label_space: LabelSpace | None = None,
    lenient: bool = False,
) -> SegmentationData:
    """Open a data set.

    Args:
        where: a config; or the path of a folder (plain or CamVid layout, or with a ``data.yaml``) or of a YAML file
            with a config. ``DIR:val`` is the split ``val`` of the folder ``DIR``.
        split: overrides the config's split.
        label_space: used for a folder that has none of its own.
        lenient: list images that lack a required mask instead of raising, for a check that reports them all.

    Raises:
        UserError: the path or the split does not exist, the layout is not recognised, the config is wrong, an image has
            no mask.

    Example:
        >>> data = open_data(StreetsConfig(count=2, size=(64, 96)), split="val")
        >>> len(data), data.read(1).image.shape
        (2, (64, 96, 3))
    """
    config = data_config(where, split)
    match config:
        case FolderConfig():
            return open_folder(config, label_space, lenient)
        case CamVidConfig():
            return open_camvid(config, lenient)
        case StreetsConfig():
            return StreetsData(config)


def data_config(
    where: str | Path | FolderConfig | CamVidConfig | StreetsConfig, split: str | None = None
) -> FolderConfig | CamVidConfig | StreetsConfig:
    """The config that a path stands for; see ``open_data``.

    A folder config without templates takes what it leaves open from the folder's ``data.yaml``, where there is one.

    Raises:
        UserError: the path does not exist or the config is wrong.
    """
    config = _with_data_file(where) if isinstance(where, Config) else _config_of_path(where)
    if split is None:
        return config
    return validate(type(config), {**config.model_dump(), "split": split})


def list_splits(where: str | Path | FolderConfig | CamVidConfig | StreetsConfig) -> tuple[str, ...]:
    """The splits that a data set offers: train, val, test, others; none where it is one set or names its split itself.

    Raises:
        UserError: as ``data_config``.
    """
    config = data_config(where)
    if isinstance(config, StreetsConfig) or config.split is not None:
        return ()
    root = config.root.expanduser()
    if isinstance(config, CamVidConfig):
        return camvid_splits(root)
    if config.image is None and config.split_file is None:
        found = folder_splits(root)
    else:
        found = _template_splits(root, config)
    return tuple(sorted(found, key=lambda name: (*(name != known for known in _STREETS_SPLITS), name)))


def _template_splits(root: Path, config: FolderConfig) -> tuple[str, ...]:
    """Splits by the folders or files that stand where a template has ``{split}`` as a whole part of a path."""
    template = config.split_file or config.image or ""
    before, found, after = template.partition("{split}")
    if not found or not (before.endswith("/") or not before) or not (root / before).is_dir():
        return ()
    if config.split_file:
        return tuple(path.name.removesuffix(after) for path in (root / before).iterdir() if path.name.endswith(after))
    return tuple(path.name for path in (root / before).iterdir() if path.is_dir() and not path.name.startswith("."))


def _with_data_file(
    config: FolderConfig | CamVidConfig | StreetsConfig,
) -> FolderConfig | CamVidConfig | StreetsConfig:
    if not isinstance(config, FolderConfig) or config.image or config.split_file:
        return config
    path = config.root.expanduser() / DATA_FILE
    described = _config_of_yaml(path) if path.is_file() else config
    if not isinstance(described, FolderConfig):
        raise UserError(f"{path} describes a data set of kind {described.kind!r}; write that kind in place of 'folder'")
    # Defaults may be written down, as in a run's resolved config; the folder's own word counts against them.
    chosen = {name: value for name, value in config if name not in ("kind", "root") and value != _DEFAULTS[name]}
    return validate(FolderConfig, {**described.model_dump(), **chosen})


def _config_of_path(where: str | Path) -> FolderConfig | CamVidConfig | StreetsConfig:
    path = Path(where).expanduser()
    if not path.exists():
        folder, separator, split = str(path).rpartition(":")
        if not separator or not Path(folder).exists():
            raise UserError(f"no such data set: {path}; give a folder, FOLDER:SPLIT, or a YAML file of a data config")
        if not split:
            raise UserError(f"{path} names no split after the colon; write for example {folder}:val, or leave it out")
        return data_config(folder, split)
    if path.is_file():
        return _config_of_yaml(path)
    if (path / DATA_FILE).is_file():
        return _config_of_yaml(path / DATA_FILE)
    if camvid_splits(path):
        return CamVidConfig(root=path)
    if (path / "images").is_dir() or folder_splits(path):
        return FolderConfig(root=path)
    raise UserError(
        f"{path} is in no layout that is recognised: it needs images/ with masks/, <split>/images/ with "
        f"<split>/masks/, or train/ with trainannot/; for other layouts write {path / DATA_FILE} with the "
        "templates 'image' and 'mask'"
    )


def _config_of_yaml(path: Path) -> FolderConfig | CamVidConfig | StreetsConfig:
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise UserError(f"{path} is neither a folder nor a YAML file of a data config")
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold the keys of a data config, such as kind, root and split")
    kind = values.get("kind", "folder")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise UserError(f"{path}: kind is {kind!r}, allowed are {', '.join(_KINDS)}")
    if kind != "streets" and isinstance(values.get("root", ""), str):  # what else a root may be is told below
        # A file beside its data needs no root; a relative root is looked for beside the file first, then in the working
        # directory.
        root = Path(str(values.get("root", "."))).expanduser()
        values = {**values, "root": path.parent / root if (path.parent / root).exists() else root}
    try:
        return validate(_KINDS[kind], values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
