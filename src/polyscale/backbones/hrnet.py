"""HRNet (Sun et al., 2019, arXiv:1904.04514): four branches from stride 4 to stride 32 that exchange features.

The modules and their weights are timm's, the way they are walked through is ours. timm enlarges coarse
branches by whole factors (nearest pixel), which fails unless 32 divides the image's sides; the network published for
segmentation resizes them bilinearly to the finer branch's size, which works at every size. The maps given out are the
branches themselves (48, 96, 192, 384 channels for W48) and not timm's widened ones for classification; a decoder that
wants the concatenated high-resolution features resizes and joins them.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from polyscale.backbones.backbone import Backbone, BackboneConfig
from polyscale.backbones.checkpointing import hold_statistics_when_recomputing
from polyscale.backbones.pretrained import load_pretrained
from polyscale.backbones.pyramid import create_body, normalisation

__all__ = ["HRNetBackbone"]


class HRNetBackbone(Backbone):
    """timm's HRNets with the branches of the last stage as maps, at strides 4, 8, 16 and 32.

    Args:
        config: ``name`` is ``hrnet_*``.

    Raises:
        UserError: the name, the output stride (32 only), the weights or another option cannot be had.
    """

    body: Any

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        # Map 0 of timm's, the stem at stride 2, takes no part in segmentation.
        options = {"feature_location": "", "out_indices": (1, 2, 3, 4)}
        self.body = create_body(config, **options)
        self.channels = tuple(self.body.feature_info.channels())
        self.strides = (4, 8, 16, 32)
        self.mean, self.std = normalisation(config)
        self.upsampling = config.branch_upsampling
        self.checkpointing = config.checkpointing
        for module in self.body.modules():
            if isinstance(module, nn.Sequential) and len(module) == 3 and isinstance(module[2], nn.Upsample):
                module[2] = nn.Identity()  # resizing to the target's size is done in _exchange
        load_pretrained(self.body, config, **options)
        if config.checkpointing:
            hold_statistics_when_recomputing(self.body)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images (N, 3, H, W) to maps (N, channels[k], ceil(H / strides[k]), ceil(W / strides[k]))."""
        body = self.body
        x = body.act1(body.bn1(body.conv1(x)))
        x = body.act2(body.bn2(body.conv2(x)))
        x = self._run(body.layer1, x)[0]
        branches = [step(x) for step in body.transition1]
        branches = self._stage(body.stage2, branches)
        branches = self._stage(body.stage3, _add_branch(body.transition2, branches))
        return self._stage(body.stage4, _add_branch(body.transition3, branches))

    def _stage(self, stage: nn.Module, branches: list[Tensor]) -> list[Tensor]:
        for module in stage.children():
            branches = self._run(module, *branches)
        return branches

    def _run(self, module: nn.Module, *branches: Tensor) -> list[Tensor]:
        def run(*branches: Tensor) -> list[Tensor]:
            if isinstance(module, nn.Sequential):
                return [module(branches[0])]
            return self._exchange(module, branches)

        if self.checkpointing and self.training:
            return list(checkpoint(run, *branches, use_reentrant=False))
        return run(*branches)

    def _exchange(self, module: Any, branches: tuple[Tensor, ...]) -> list[Tensor]:
        """One high-resolution module: each branch by itself, then all into each, summed at the receiver's size."""
        branches = tuple(branch(x) for branch, x in zip(module.branches, branches, strict=True))
        fused = []
        for target, paths in enumerate(module.fuse_layers):
            size = branches[target].shape[-2:]
            total = paths[0](branches[0])
            for source, path in list(enumerate(paths))[1:]:
                x = path(branches[source])
                total = total + (self._resized(x, size) if source > target else x)
            fused.append(module.fuse_act(total))
        return fused

    def _resized(self, x: Tensor, size: torch.Size) -> Tensor:
        corners = {"align_corners": False} if self.upsampling == "bilinear" else {}
        return functional.interpolate(x, size=size, mode=self.upsampling, **corners)


def _add_branch(transition: nn.Module, branches: list[Tensor]) -> list[Tensor]:
    """The branches so far and one more, made from the coarsest of them."""
    return [
        branches[place] if isinstance(step, nn.Identity) else step(branches[-1])
        for place, step in enumerate(transition.children())
    ]
