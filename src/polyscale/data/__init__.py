"""Data sets: where they keep files, how they are read and checked.

Names load on first use, so that listing or checking data does not wait for torch.
"""

from typing import TYPE_CHECKING

from polyscale.lazy import lazy_names

if TYPE_CHECKING:
    from polyscale.data.camvid import CAMVID, CamVidConfig
    from polyscale.data.check import check_data, check_splits
    from polyscale.data.check_report import DataReport, Problem, Table
    from polyscale.data.confidence import ConfidenceMaps
    from polyscale.data.drawn import StreetsConfig, StreetsData
    from polyscale.data.file_data import FileData
    from polyscale.data.folders import FolderConfig, MissingLabelSpaceError
    from polyscale.data.images import image_size, read_image, to_rgb
    from polyscale.data.items import DataError, Item, Sample, SegmentationData
    from polyscale.data.kind import DataSetConfig
    from polyscale.data.masks import read_color_mask, read_mask, write_mask
    from polyscale.data.open import DataConfig, data_config, list_splits, open_data
    from polyscale.data.readable import check_files
    from polyscale.data.suggest import suggest_label_space
    from polyscale.data.torch_data import TorchConfig, TorchData

__all__ = [
    "CAMVID",
    "CamVidConfig",
    "ConfidenceMaps",
    "DataConfig",
    "DataError",
    "DataReport",
    "DataSetConfig",
    "FileData",
    "FolderConfig",
    "Item",
    "MissingLabelSpaceError",
    "Problem",
    "Sample",
    "SegmentationData",
    "StreetsConfig",
    "StreetsData",
    "Table",
    "TorchConfig",
    "TorchData",
    "check_data",
    "check_files",
    "check_splits",
    "data_config",
    "image_size",
    "list_splits",
    "open_data",
    "read_color_mask",
    "read_image",
    "read_mask",
    "suggest_label_space",
    "to_rgb",
    "write_mask",
]

_HOMES = {
    "camvid": ("CAMVID", "CamVidConfig"),
    "check": ("check_data", "check_splits"),
    "check_report": ("DataReport", "Problem", "Table"),
    "confidence": ("ConfidenceMaps",),
    "drawn": ("StreetsConfig", "StreetsData"),
    "file_data": ("FileData",),
    "folders": ("FolderConfig", "MissingLabelSpaceError"),
    "images": ("image_size", "read_image", "to_rgb"),
    "items": ("DataError", "Item", "Sample", "SegmentationData"),
    "masks": ("read_color_mask", "read_mask", "write_mask"),
    "kind": ("DataSetConfig",),
    "open": ("DataConfig", "data_config", "list_splits", "open_data"),
    "readable": ("check_files",),
    "suggest": ("suggest_label_space",),
    "torch_data": ("TorchConfig", "TorchData"),
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
