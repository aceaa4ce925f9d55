"""Hierarchical multi-scale attention (Tao, Sapra, Catanzaro, 2020, arXiv:2005.10821, section 3): the whole idea.

A segmenter looks at the image at several scales. At scale ``s`` it gives class logits ``L_s`` and an attention map
``a_s`` in [0, 1]: how far to trust this scale against *every finer one*. From the finest scale to the coarsest:

    fused <- a_s * L_s + (1 - a_s) * fused

The attention is relative, so a network trained on one pair of scales (0.5, 1) chains any set of scales afterwards.

The fusion has two modes. The published, *exact* one brings every view to its own input's size first. The *fast* one
fuses on the segmenter's own grid and enlarges only the result.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from polyscale.scales import check_scales, scaled_size
from polyscale.views import Fused, Look, View, look, resize

__all__ = [
    "Fused",
    "HierarchicalMultiScale",
    "MultiScale",
    "View",
    "chained_weights",
    "check_scales",
    "fuse",
    "fuse_on_grid",
    "look",
    "resize",
    "scaled_size",
]


def fuse(views: Mapping[float, View]) -> Fused:
    """Chain views from the finest scale to the coarsest, each weighted by its attention; the finest's is never read.

    For s >= 1 the fused result is first resized to this scale's size; for s < 1 the product and the attention are
    resized to the result's (arXiv:2005.10821, section 3.1; for s < 1 in the published order: multiply, then resize).

    Args:
        views: scale -> view at that scale's input size; 1 must be among the scales.

    Returns:
        Logits and auxiliary logits at the size of scale 1, and the views, finest first.

    Raises:
        ValueError: scale 1 is missing, or a view other than the finest has no attention.
    """
    return _chain(views, shrink=True)


def fuse_on_grid(views: Mapping[float, View], size: Sequence[int]) -> Fused:
    """The fast mode: chain views on the finest one's own grid, and resize the result, once, to ``size``.

    Args:
        views: scale -> view on the segmenter's grid; 1 must be among the scales.
        size: (H, W) of the result.

    Returns:
        Logits and auxiliary logits at ``size``, and the views, finest first.

    Raises:
        ValueError: scale 1 is missing, or a view other than the finest has no attention.
    """
    return _enlarged(_chain(views, shrink=False), size)


def _enlarged(fused: Fused, size: Sequence[int]) -> Fused:
    """The same with logits at ``size``; the views stay as they are."""
    return Fused(resize(fused.logits, size), None if fused.aux is None else resize(fused.aux, size), fused.views)


def _chain(views: Mapping[float, View], shrink: bool) -> Fused:
    """Fold the views from the finest scale down; ``shrink``: at scales from 1 up the result takes each view's size."""
    scales = check_scales(list(views))
    finest = views[scales[0]]
    logits, aux = finest.logits, finest.aux
    for scale in scales[1:]:
        view, attention = views[scale], _attention(views, scale)
        blend = _blend_down if shrink and scale >= 1 else _blend_up
        logits = blend(logits, view.logits, attention)
        aux = None if aux is None or view.aux is None else blend(aux, view.aux, attention)
    return Fused(logits, aux, {scale: views[scale] for scale in scales})


def _attention(views: Mapping[float, View], scale: float) -> Tensor:
    attention = views[scale].attention
    if attention is None:
        raise ValueError(
            f"the view at scale {scale:g} has no attention map: the segmenter needs a scale-attention head"
        )
    return attention


def _blend_down(fused: Tensor, logits: Tensor, attention: Tensor) -> Tensor:
    return attention * logits + (1 - attention) * resize(fused, logits.shape[-2:])


def _blend_up(fused: Tensor, logits: Tensor, attention: Tensor) -> Tensor:
    size = fused.shape[-2:]
    return resize(attention * logits, size) + (1 - resize(attention, size)) * fused


def chained_weights(views: Mapping[float, View]) -> dict[float, Tensor]:
    """What ``fuse`` multiplies each scale's logits by (arXiv:2005.10821, section 3.1, with the recursion written out).

    A scale counts ``a_s`` times what every coarser scale has left over, and the finest all of the rest. Below scale 1
    the attention is resized on its own, whereas the fusion resizes it multiplied by the logits, so the weights describe
    that step up to interpolation.

    Args:
        views: scale -> view at that scale's input size; 1 must be among the scales.

    Returns:
        Scale -> (N, 1, H, W), or (N, C, H, W) with one map a class, float32 at the size of scale 1, finest scale first.
        They sum to 1 over the scales.

    Raises:
        ValueError: scale 1 is missing, or a view other than the finest has no attention.
    """
    finest, *coarser = check_scales(list(views))
    weights = {finest: torch.ones_like(views[finest].logits[:, :1], dtype=torch.float32)}
    for scale in coarser:
        attention = _attention(views, scale).float()
        size = weights[finest].shape[-2:] if scale < 1 else attention.shape[-2:]
        attention = resize(attention, size)
        weights = {finer: (1 - attention) * resize(weight, size) for finer, weight in weights.items()}
        weights[scale] = attention
    return weights


class MultiScale(nn.Module):
    """A network of several scales: a segmenter, and a way of combining what it says of an image at each scale.

    The four methods of the paper's comparison derive from it. A module of your own that does so too can be trained,
    evaluated, used and exported like them: it writes ``combine`` and, where its weights differ, ``weights``.

    Args:
        segmenter: (N, 3, h, w) -> View, on any grid.
        train_scales: scales of a training step.
        eval_scales: scales used where none are asked for.
        fixed: no other scales than ``eval_scales`` can be used.

    Attributes:
        method: the name of the way of combining scales.
        config: the ``ModelConfig`` that it was built from, which a checkpoint keeps; None for a module of your own.
        shows_scales: ``maps`` shows the image through its argument ``look``, so that tiles can show more of it.
    """

    method = "own"
    config: Any = None
    shows_scales = False

    def __init__(
        self, segmenter: nn.Module, train_scales: Sequence[float], eval_scales: Sequence[float], fixed: bool = False
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.train_scales = check_scales(train_scales)
        self.eval_scales = check_scales(eval_scales)
        self.fixed = fixed

    def forward(self, images: Tensor, scales: Sequence[float] | None = None) -> Fused:
        """Images (N, 3, H, W), RGB in [0, 1], to logits (N, C, H, W) and the view of each scale.

        Raises:
            ValueError: scales without 1, or scales that the method cannot take.
        """
        return self.combine(images, self.choose(scales))

    def combine(self, images: Tensor, scales: tuple[float, ...]) -> Fused:
        """Look at each of ``scales``, finest first as ``choose`` gives them, and combine the views."""
        raise NotImplementedError

    def maps(
        self,
        images: Tensor,
        scales: tuple[float, ...],
        look: Look = look,  # noqa: ARG002 - for those that can
    ) -> tuple[list[Tensor], dict[float, View]]:
        """What ``strips.classify`` makes the result of, without logits at the image's size where a method can do so.

        Args:
            images: (N, 3, H, W), RGB in [0, 1].
            scales: as for ``combine``.
            look: how images are shown at one scale; only where ``shows_scales``.

        Returns:
            Logits (N, C, h, w) on any grid, whose mean probability at the image's size is that of the result, and the
            views as ``combine`` leaves them.
        """
        fused = self.combine(images, scales)
        return [fused.logits], fused.views

    def choose(self, scales: Sequence[float] | None = None) -> tuple[float, ...]:
        """The scales to look at, finest first: those asked for, or ``eval_scales``.

        Raises:
            ValueError: scales without 1, or scales that the method cannot take.
        """
        if scales is None:
            return self.eval_scales
        chosen = check_scales(scales)
        if self.fixed and chosen != self.eval_scales:
            fixed, asked = (",".join(f"{scale:g}" for scale in sorted(some)) for some in (self.eval_scales, chosen))
            raise ValueError(
                f"method {self.method!r} is bound to scales {fixed}, got {asked}; leave the scales out, or use "
                "a network of method hierarchical or average"
            )
        return chosen

    def weights(self, views: Mapping[float, View]) -> dict[float, Tensor]:
        """How much each scale counts in the result, pixel by pixel: the same for all, unless a method says otherwise.

        Args:
            views: scale -> view at that scale's input size (see ``at_input_sizes``).

        Returns:
            Scale -> (N, 1, H, W), or (N, C, H, W) with one map a class, float32 at the size of scale 1, finest first.
        """
        ones = torch.ones_like(views[1.0].logits[:, :1], dtype=torch.float32)
        return {scale: ones / len(views) for scale in check_scales(list(views))}

    @property
    def in_channels(self) -> int:
        """Channels of an image."""
        mean = getattr(self.segmenter, "mean", None)
        return len(mean) if isinstance(mean, Tensor) and mean.ndim == 3 else 3

    def parts(self) -> dict[str, nn.Module]:
        """The parts of the network that have a name: backbone, decoder, attention, as far as there are such."""
        found = {name: getattr(self.segmenter, name, None) for name in ("backbone", "decoder", "attention")}
        return {name: part for name, part in found.items() if isinstance(part, nn.Module)}

    def part_of(self) -> dict[str, str]:
        """The part of each parameter and buffer by its name; what belongs to no part counts as the decoder's."""
        owner = {id(x): name for name, part in self.parts().items() for x in part.state_dict(keep_vars=True).values()}
        return {name: owner.get(id(x), "decoder") for name, x in self.state_dict(keep_vars=True).items()}


class HierarchicalMultiScale(MultiScale):
    """A segmenter that is shown each scale in turn; its views are fused by their attention.

    Training uses one pair of scales, inference any set that contains 1.

    Args:
        segmenter: (N, 3, h, w) -> View with attention, on any grid. If it has a method ``without_attention`` with the
            same arguments, that is called at the finest scale, whose attention is never read.
        skip_finest: False runs the attention head at the finest scale too, as the released training code does: the
            result is the same, but the head's batch-norm statistics then count that scale as well.
        fast: fuse on the segmenter's grid; the views are left there.
        train_scales: scales of a training step.
        eval_scales: scales used where none are asked for.
    """

    method = "hierarchical"
    shows_scales = True

    def __init__(
        self,
        segmenter: nn.Module,
        skip_finest: bool = True,
        fast: bool = False,
        train_scales: Sequence[float] = (0.5, 1.0),
        eval_scales: Sequence[float] = (0.5, 1.0, 2.0),
    ) -> None:
        super().__init__(segmenter, train_scales, eval_scales)
        self.skip_finest = skip_finest
        self.fast = fast

    def combine(self, images: Tensor, scales: tuple[float, ...]) -> Fused:
        """Look at each scale, and fuse."""
        return _enlarged(self._fuse(self._look(images, scales), images.shape[-2:]), images.shape[-2:])

    def maps(
        self, images: Tensor, scales: tuple[float, ...], look: Look = look
    ) -> tuple[list[Tensor], dict[float, View]]:
        """The fused logits, with ``fast`` on the grid of the finest view."""
        fused = self._fuse(self._look(images, scales, look), images.shape[-2:])
        return [fused.logits], fused.views

    def _look(self, images: Tensor, scales: tuple[float, ...], look: Look = look) -> dict[float, View]:
        # Coarsest first: batch-norm statistics are updated in the order of the published training.
        finest, *coarser = scales
        views = {scale: look(self.segmenter, images, scale, grid=self.fast) for scale in reversed(coarser)}
        plain = getattr(self.segmenter, "without_attention", self.segmenter) if self.skip_finest else self.segmenter
        views[finest] = look(plain, images, finest, grid=self.fast)
        return views

    def _fuse(self, views: Mapping[float, View], size: Sequence[int]) -> Fused:  # noqa: ARG002 - for those that need it
        """Fuse the views of images of ``size``; with ``fast`` the logits stay on the finest view's grid."""
        return _chain(views, shrink=not self.fast)

    def weights(self, views: Mapping[float, View]) -> dict[float, Tensor]:
        """The products of attentions down the chain; see ``chained_weights``."""
        return chained_weights(views)
