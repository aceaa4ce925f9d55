"""Opens a data set from a config, a YAML file or a mere folder.

A path is enough where a folder has a layout that can be recognised, or a ``data.yaml`` that describes it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args

from pydantic import BeforeValidator, Field

from polyscale.config import read_yaml, validate
from polyscale.data.camvid import CamVidConfig
from polyscale.data.cityscapes import CityscapesConfig
from polyscale.data.drawn import StreetsConfig
from polyscale.data.folders import FolderConfig
from polyscale.data.items import SegmentationData
from polyscale.data.kind import DataSetConfig
from polyscale.data.mapillary import MapillaryConfig
from polyscale.data.published import PublishedConfig
from polyscale.data.torch_data import TorchConfig
from polyscale.errors import UserError
from polyscale.files import refuse_address
from polyscale.labels import LabelSpace

__all__ = ["DATA_FILE", "KINDS", "DataConfig", "data_config", "list_splits", "open_data", "path_as_config"]

KINDS: tuple[type[DataSetConfig], ...] = (
    FolderConfig,
    CamVidConfig,
    CityscapesConfig,
    MapillaryConfig,
    PublishedConfig,
    StreetsConfig,
    TorchConfig,
)
"""Every kind of data set; another one is one line here and its module. Later ones are recognised first."""

DATA_FILE = "data.yaml"

_DEFAULTS = {name: field.default for name, field in FolderConfig.model_fields.items()}
_FIRST_SPLITS = ("train", "val", "test")


def path_as_config(value: Any) -> Any:
    """What a recipe may write in place of a data set's config, ``auto`` or ``streets:val``, as that config."""
    return data_config(value) if isinstance(value, str) else value


if TYPE_CHECKING:
    DataConfig = DataSetConfig
else:
    DataConfig = Annotated[Union[KINDS], Field(discriminator="kind"), BeforeValidator(path_as_config)]  # noqa: UP007
    """The configuration of a data set, told apart by ``kind``; or the path of one."""


def open_data(
    where: str | Path | DataSetConfig,
    split: str | None = None,
    label_space: LabelSpace | None = None,
    lenient: bool = False,
) -> SegmentationData:
    """Open a data set.

    Args:
        where: a config; or the path of a folder (in a layout that is recognised, or with a ``data.yaml``) or of a YAML
            file with a config. ``DIR:val`` is the split ``val`` of the folder ``DIR``.
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
    return data_config(where, split).open(label_space, lenient)


def data_config(where: str | Path | DataSetConfig, split: str | None = None) -> DataSetConfig:
    """The config that a path stands for; see ``open_data``.

    A folder config without templates takes what it leaves open from the folder's ``data.yaml``, where there is one.

    Raises:
        UserError: the path does not exist or the config is wrong.
    """
    config = _with_data_file(where) if isinstance(where, DataSetConfig) else _config_of_path(where)
    if split is None:
        return config
    if "split" not in type(config).model_fields:
        raise UserError(f"data of kind {config.kind!r} have no splits; leave {split!r} out")
    return validate(type(config), {**config.model_dump(), "split": split})


def list_splits(where: str | Path | DataSetConfig) -> tuple[str, ...]:
    """The splits that a data set offers: train, val, test, others; none where it is one set or names its split itself.

    Raises:
        UserError: as ``data_config``.
    """
    found = data_config(where).splits()
    return tuple(sorted(found, key=lambda name: (*(name != known for known in _FIRST_SPLITS), name)))


def _with_data_file(config: DataSetConfig) -> DataSetConfig:
    if not isinstance(config, FolderConfig) or config.image or config.split_file:
        return config
    path = config.root.expanduser() / DATA_FILE
    described = _config_of_yaml(path) if path.is_file() else config
    if not isinstance(described, FolderConfig):
        raise UserError(f"{path} describes a data set of kind {described.kind!r}; write that kind in place of 'folder'")
    # Defaults may be written down, as in a run's resolved config; the folder's own word counts against them.
    chosen = {name: value for name, value in config if name not in ("kind", "root") and value != _DEFAULTS[name]}
    return validate(FolderConfig, {**described.model_dump(), **chosen})


def _config_of_path(where: str | Path) -> DataSetConfig:
    path = Path(where).expanduser()
    if not path.exists():
        folder, separator, split = str(path).rpartition(":")
        if not separator or not Path(folder).exists():
            refuse_address(path)
            raise UserError(f"no such data set: {path}; give a folder, FOLDER:SPLIT, or a YAML file of a data config")
        if not split:
            raise UserError(f"{path} names no split after the colon; write for example {folder}:val, or leave it out")
        return data_config(folder, split)
    if path.is_file():
        return _config_of_yaml(path)
    if (path / DATA_FILE).is_file():
        return _config_of_yaml(path / DATA_FILE)
    for kind in reversed(KINDS):
        config = kind.recognised(path)
        if config is not None:
            return config
    raise UserError(
        f"{path} is in no layout that is recognised: it needs images/ with masks/, <split>/images/ with "
        f"<split>/masks/, or a published data set as it is downloaded ({', '.join(_published())}); for other layouts "
        f"write {path / DATA_FILE} with the templates 'image' and 'mask'"
    )


def _config_of_yaml(path: Path) -> DataSetConfig:
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise UserError(f"{path} is neither a folder nor a YAML file of a data config")
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold the keys of a data config, such as kind, root and split")
    kinds = {name: kind for kind in KINDS for name in get_args(kind.model_fields["kind"].annotation)}
    name = values.get("kind", "folder")
    if not isinstance(name, str) or name not in kinds:
        raise UserError(f"{path}: kind is {name!r}, allowed are {', '.join(kinds)}")
    kind = kinds[name]
    if kind.runs_code and path.name == DATA_FILE:
        raise UserError(f"{path}: data of kind {name!r} run code; only a recipe or a file that you name may ask for it")
    if "root" in kind.model_fields and isinstance(values.get("root", ""), str):  # what else it may be is told below
        # A file beside its data needs no root; a relative root is looked for beside the file first, then in the working
        # directory.
        root = Path(str(values.get("root", "."))).expanduser()
        values = {**values, "root": path.parent / root if (path.parent / root).exists() else root}
    try:
        return validate(kind, values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _published() -> list[str]:
    kinds = [kind for kind in KINDS if "root" in kind.model_fields and kind is not FolderConfig]
    return [name for kind in kinds for name in get_args(kind.model_fields["kind"].annotation)]
