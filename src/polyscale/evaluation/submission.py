"""Predictions as the files that Cityscapes' test server takes: label ids, one PNG an image.

The server, and the evaluator of ``cityscapesscripts``, finds a prediction by the beginning of its name: the city and
two numbers of six digits.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from polyscale.errors import UserError
from polyscale.files import check_folder, write_atomically
from polyscale.labels import LabelSpace

if TYPE_CHECKING:
    from polyscale.data.items import SegmentationData

__all__ = ["Submission"]

_NAME = re.compile(r"[A-Za-z-]+_\d{6}_\d{6}")


class Submission:
    """A folder of predictions, ``CITY_SEQUENCE_FRAME_pred.png`` each.

    Args:
        folder: new or empty.
        data: Cityscapes, or images that are named like its own; with the 19 classes that are scored.

    Raises:
        UserError: the classes or the names are others, or the folder holds files.
    """

    def __init__(self, folder: Path, data: "SegmentationData") -> None:
        from polyscale.data.known_spaces import known_space

        check_folder(folder)
        if folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise UserError(f"{folder} is not empty; choose a new folder for the submission")
        self._folder = folder
        self._space: LabelSpace = known_space("cityscapes")
        if not self._space.match(data.label_space).same_order:
            raise UserError(
                f"a submission to Cityscapes has its {self._space.num_classes} classes, and the data those of "
                f"{data.label_space.name!r}; evaluate on Cityscapes"
            )
        self._names = {item.name: _file_name(item.name) for item in data.items}
        if len(set(self._names.values())) < len(self._names):
            raise UserError("two images of the data have one name for Cityscapes; evaluate on one split")

    def add(self, name: str, classes: Tensor) -> None:
        """Write one prediction, (H, W) train ids."""
        from PIL import Image

        ids: Any = self._space.decode(classes.cpu().numpy())
        with write_atomically(self._folder / self._names[name]) as temporary:
            Image.fromarray(ids).save(temporary, format="PNG")


def _file_name(name: str) -> str:
    found = _NAME.search(name.rpartition("/")[2])
    if found is None:
        raise UserError(
            f"image {name!r} is not named as Cityscapes names images (CITY_123456_123456), so the server cannot take it"
        )
    return f"{found[0]}_pred.png"
