"""Weights and maps as numbers of 8 bits, chosen by what real images give (post-training static quantisation)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from polyscale.data.images import read_image
from polyscale.errors import UserError
from polyscale.models.onnx_network import INPUT

__all__ = ["quantise"]


def quantise(source: Path, target: Path, images: Sequence[Path], size: tuple[int, int] | None) -> None:
    """Write an ONNX file with convolutions of 8 bits, with a scale for each channel of weights.

    All else, the fusion among it, stays float32.

    Args:
        source: the float32 file.
        target: where to.
        images: whose maps tell the range of each layer.
        size: (H, W) to which images are resized; None keeps theirs.

    Raises:
        UserError: an image cannot be read, or ONNX Runtime cannot quantise the network.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Images as the file takes them, one after the other."""

        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            path = next(self.left, None)
            return None if path is None else {INPUT: _pixels(path, size)}

    try:
        quantize_static(
            source, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, op_types_to_quantize=["Conv"],
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
    except UserError:
        raise
    except Exception as error:  # ONNX Runtime's errors have no class in common
        raise UserError(f"ONNX Runtime cannot quantise the network ({' '.join(str(error).split())[:200]})") from None
    kept, made = onnx.load(source, load_external_data=False), onnx.load(target)
    del made.metadata_props[:]
    made.metadata_props.extend(kept.metadata_props)
    onnx.save(made, target)


def _pixels(path: Path, size: tuple[int, int] | None) -> np.ndarray[Any, np.dtype[np.float32]]:
    image = read_image(path)
    if size is not None:
        image = np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None]).astype(np.float32) / np.float32(255)
