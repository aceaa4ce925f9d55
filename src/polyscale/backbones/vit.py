"""Plain vision transformers with a simple feature pyramid (Li et al., 2022, arXiv:2203.16527, section 3).

A transformer's only map, at stride 16, is turned into maps at strides 4, 8, 16 and 32 by (transposed)
convolutions, which have no pretrained weights. The image is padded at the right and bottom (repeating the border) to
whole patches. Where a patch has 14 pixels instead of 16 (DINOv2), the image is first shrunk to 14/16 of its size, so
that the token grid stays one token for 16 x 16 pixels and the strides whole numbers. Attention is over the whole image:
its cost grows with the square of the number of pixels, which the scale 2 of a large image shows.
"""

from typing import Any

import timm
from torch import Tensor, nn
from torch.nn import functional

from polyscale.backbones.backbone import Backbone, BackboneConfig, map_size
from polyscale.backbones.pretrained import first_line, load_pretrained
from polyscale.backbones.pyramid import enable_checkpointing, normalisation
from polyscale.errors import UserError

__all__ = ["ViTBackbone", "is_plain_transformer"]

STRIDE = 16
WIDTH = 256
# Where timm keeps the transformers that take any image size: ViT, DeiT and DINOv2; EVA-02 and DINOv3.
MODULES = ("timm.models.vision_transformer", "timm.models.deit", "timm.models.eva")


def is_plain_transformer(name: str) -> bool:
    """Whether timm's model of this name is a transformer with one map, for which ``ViTBackbone`` is made."""
    return timm.is_model(name) and timm.model_entrypoint(name).__module__ in MODULES


class ViTBackbone(Backbone):
    """timm's plain vision transformers: four maps of 256 channels at strides 4, 8, 16 and 32.

    Args:
        config: ``name`` is timm's, for example ``vit_small_patch14_dinov2`` or ``vit_small_patch16_dinov3``.

    Raises:
        UserError: a patch of other than 14 or 16 pixels, an output stride, or an option or weights that cannot be had.
    """

    body: Any
    channels = (WIDTH, WIDTH, WIDTH, WIDTH)
    strides = (4, 8, 16, 32)

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.body, options = _transformer(config)
        sides = tuple(self.body.patch_embed.patch_size)
        if sides not in ((14, 14), (16, 16)):
            raise UserError(
                f"backbone {config.name!r} has patches of {sides[0]} x {sides[1]} pixels; 14 x 14 and 16 x 16 are "
                "allowed, for example vit_small_patch16_dinov3"
            )
        self.patch = int(sides[0])
        self.mean, self.std = normalisation(config)
        load_pretrained(self.body, config, **options)
        for unused in ("fc_norm", "head_drop", "head", "head_dist"):
            if hasattr(self.body, unused):  # what follows the tokens in classification
                setattr(self.body, unused, nn.Identity())
        self.body.attn_pool = None
        if config.checkpointing:
            enable_checkpointing(self.body, config.name)
        width = int(self.body.embed_dim)
        self.levels = nn.ModuleList(
            [
                nn.Sequential(
                    *_double(width, width // 2), nn.GELU(), *_double(width // 2, width // 4)[:1], *_output(width // 4)
                ),
                nn.Sequential(*_double(width, width // 2)[:1], *_output(width // 2)),
                nn.Sequential(*_output(width)),
                nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), *_output(width)),
            ]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images (N, 3, H, W) to maps (N, 256, ceil(H / strides[k]), ceil(W / strides[k]))."""
        size = x.shape[-2:]
        x = functional.pad(x, (0, -size[1] % STRIDE, 0, -size[0] % STRIDE), mode="replicate")
        if self.patch != STRIDE:
            inner = [side // STRIDE * self.patch for side in x.shape[-2:]]
            x = functional.interpolate(x, size=inner, mode="bilinear", align_corners=False)
        (tokens,) = self.body.forward_intermediates(x, indices=1, norm=True, intermediates_only=True)
        maps = []
        for level, stride in zip(self.levels, self.strides, strict=True):
            height, width = map_size(size, stride)
            maps.append(level(tokens)[..., :height, :width])
        return maps


def _transformer(config: BackboneConfig) -> tuple[Any, dict[str, Any]]:
    if config.output_stride is not None or config.dilate_first_blocks:
        option = "output_stride: null" if config.output_stride is not None else "dilate_first_blocks: false"
        raise UserError(f"backbone {config.name!r} is a transformer without stages to dilate; set {option}")
    options: dict[str, Any] = {"features_only": False, "num_classes": 0, "dynamic_img_size": True}
    if config.in_channels != 3:
        options["in_chans"] = config.in_channels
    try:
        return timm.create_model(config.name, drop_path_rate=config.drop_path, **options), options
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"backbone {config.name!r} cannot be made for images of any size ({first_line(error)}); "
            "use for example vit_small_patch14_dinov2 or vit_small_patch16_dinov3"
        ) from None


def _double(channels_in: int, channels_out: int) -> tuple[nn.Module, nn.Module]:
    return nn.ConvTranspose2d(channels_in, channels_out, 2, stride=2), _LayerNorm(channels_out)


def _output(channels_in: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(channels_in, WIDTH, 1, bias=False),
        _LayerNorm(WIDTH),
        nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
        _LayerNorm(WIDTH),
    )


class _LayerNorm(nn.LayerNorm):
    """Over the channels of (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
