"""Writes a network as a file that other runtimes read."""

import contextlib
import inspect
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

import polyscale
from polyscale.errors import UserError
from polyscale.export.graph import Exportable
from polyscale.export.traceable import traceable
from polyscale.export.verify import Agreement, agreement, check, open_file, sizes_to_try
from polyscale.files import write_atomically
from polyscale.labels import LabelSpace
from polyscale.models.metadata import ENTRY, pack
from polyscale.models.onnx_network import INPUT, OUTPUTS, OnnxNetwork
from polyscale.multiscale import MultiScale

__all__ = ["SUFFIXES", "Exported", "check_onnx_libraries", "export_network"]

SUFFIXES = (".onnx", ".pt2")

_TRACED = (2, 3, 353, 449)
"""Any size without a pattern: what holds for it by chance holds for no other."""

_OPSET = 18


TOO_OLD = "prefer_deferred_runtime_asserts_over_guards" not in inspect.signature(torch.export.export).parameters
"""PyTorch before 2.9 cannot trace sizes that are not known."""


class Exported(NamedTuple):
    """A file that was written."""

    path: Path
    agreement: Agreement | None
    """Agreement with the network; None where it was not compared."""


def export_network(
    model: MultiScale,
    label_space: LabelSpace,
    path: str | Path,
    *,
    scales: Sequence[float] | None = None,
    size: tuple[int, int] | None = None,
    verify: bool = True,
    info: Mapping[str, Any] | None = None,
) -> Exported:
    """Write a network as ONNX or as a program of ``torch.export``, with the fusion of its scales inside.

    The file takes ``images`` (N, 3, H, W), float32 RGB in [0, 1], and gives ``logits`` (N, C, H, W), whose softmax is
    the probability. Where scales are weighed it also gives ``weights`` (N, S, H, W): how much each counts in the class
    chosen, finest first. Label space, scales and normalisation stand in its metadata.

    Args:
        model: the network; it stays as it is.
        label_space: of its classes.
        path: ends in ``.onnx`` or ``.pt2``.
        scales: by default the network's own.
        size: (H, W) of all images, which makes a somewhat quicker file; None takes images of any size.
        verify: compare with the network, and leave no file where it differs.
        info: facts to keep, as in a checkpoint.

    Raises:
        UserError: another suffix, a library is missing, the network cannot be exported, or the file differs from it.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UserError(f"the result ends in {' or '.join(SUFFIXES)}, got {str(path)!r}; choose another name")
    if isinstance(model, OnnxNetwork):
        raise UserError("the network is exported already; name the checkpoint that it was made of")
    if path.suffix == ".onnx":
        check_onnx_libraries()
    try:
        chosen = model.choose(scales)
    except ValueError as error:
        raise UserError(str(error)) from None
    modes = [(module, module.training) for module in model.modules()]
    device = next(model.parameters(), torch.zeros(())).device
    try:
        network = Exportable(model.eval().cpu(), chosen)
        program = _trace(Exportable(traceable(network.model), chosen), size)
        facts = _facts(model, label_space, chosen, size, info)
        with write_atomically(path) as temporary:
            _write(program, temporary, facts, size)
            found = None
            if verify:
                found = agreement(open_file(temporary), network, sizes_to_try(size, min(chosen)))
                check(found, path)
    finally:
        model.to(device)
        for module, training in modes:
            module.training = training
    return Exported(path, found)


def check_onnx_libraries() -> None:
    """Make sure that what writes ONNX is installed.

    Raises:
        UserError: it is not.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f'writing ONNX needs {error.name}: pip install "polyscale[onnx]"') from None


def _trace(network: Exportable, size: tuple[int, int] | None) -> torch.export.ExportedProgram:
    example = torch.rand(_TRACED if size is None else (2, 3, *size))
    anything = torch.export.Dim.DYNAMIC
    dynamic = {0: anything} if size is not None else {0: anything, 2: anything, 3: anything}
    if TOO_OLD:
        raise UserError(f"export needs PyTorch 2.9 or newer; this is {torch.__version__}")
    try:
        with _quiet(), torch.no_grad():
            program = torch.export.export(
                network.eval(), (example,), dynamic_shapes=(dynamic,), prefer_deferred_runtime_asserts_over_guards=True
            )
    except Exception as error:  # whatever PyTorch raises for what it cannot trace
        raise _refused(error, size) from None
    _drop_assertions(program)
    return program


def _drop_assertions(program: torch.export.ExportedProgram) -> None:
    """Remove what tracing took for conditions on sizes: most hold always, others for the traced size by chance.

    Whether the graph is right for other sizes, the comparison tells.
    """
    for node in reversed(list(program.graph.nodes)):
        if "_assert_" in str(node.target) or "sym_constrain_range" in str(node.target):
            program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()


def _write(
    program: torch.export.ExportedProgram, path: Path, facts: dict[str, str], size: tuple[int, int] | None
) -> None:
    if path.suffix == ".pt2":
        torch.export.save(program, path, extra_files={f"{ENTRY}.json": facts[ENTRY]})
    else:
        _write_onnx(program, path, facts, size)


def _write_onnx(
    program: torch.export.ExportedProgram, path: Path, facts: dict[str, str], size: tuple[int, int] | None
) -> None:
    import onnx

    outputs = OUTPUTS[: len(program.graph_signature.user_outputs)]
    try:
        with _quiet():
            made = torch.onnx.export(
                program, dynamo=True, input_names=[INPUT], output_names=list(outputs), opset_version=_OPSET,
                verbose=False,
            )  # fmt: skip
        assert made is not None
        model = made.model_proto
    except Exception as error:  # whatever the exporter raises for an operation that ONNX lacks
        raise _refused(error, size) from None
    del model.graph.value_info[:]  # names of sizes while tracing; a runtime finds sizes by itself
    names = ("batch", None, "height", "width")
    for value in [*model.graph.input, *model.graph.output]:
        for name, side in zip(names, value.type.tensor_type.shape.dim, strict=True):
            if name is not None and side.dim_param:
                side.dim_param = name
    for key, text in facts.items():
        model.metadata_props.add(key=key, value=text)
    onnx.save(model, path)


def _facts(
    model: MultiScale,
    label_space: LabelSpace,
    scales: tuple[float, ...],
    size: tuple[int, int] | None,
    info: Mapping[str, Any] | None,
) -> dict[str, str]:
    mean, std = (getattr(model.segmenter, name, None) for name in ("mean", "std"))
    return pack(
        {
            "version": polyscale.__version__,
            "config": None if model.config is None else model.config.model_dump(mode="json"),
            "label_space": label_space.model_dump(mode="json"),
            "info": json.loads(json.dumps(dict(info or {}), default=str)),
            "export": {
                "method": model.method,
                "scales": list(scales),
                "size": size,
                "takes": "images (N, 3, H, W), float32 RGB in [0, 1]; the graph normalises by itself",
                "mean": None if mean is None else mean.flatten().tolist(),
                "std": None if std is None else std.flatten().tolist(),
            },
        }
    )


def _refused(error: Exception, size: tuple[int, int] | None) -> UserError:
    told = " ".join(str(error).split())[:200] or type(error).__name__
    todo = "try one size with --size HxW" if size is None else "use another backbone or decoder"
    return UserError(f"the network cannot be exported ({told}); {todo}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the notes that PyTorch's exporters write for their own developers."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
