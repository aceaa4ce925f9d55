"""Everything on a GPU, in under ten minutes, with torch, timm and this package only.

    python benchmarks/gpu.py                 on a GPU
    python benchmarks/gpu.py --tiny          the same steps with a tiny network on any machine; nothing is recorded

- training: images a second, memory, share of the measured bf16 peak from counted FLOPs; one scale against the pair
- inference at three scales: eager, compiled, CUDA graphs, each with its warm-up beside it
- RMI: time of forward and backward, and whether it makes the host wait for the GPU
- waiting: the share of a training step in which the GPU has nothing to do because data is missing

A part that fails (memory, a compiler that is missing) is recorded with its reason, and the rest goes on.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from cost import training_flops
from record import save, show

from polyscale.backbones import BackboneConfig
from polyscale.cli import main as polyscale_command
from polyscale.crops import AugmentConfig, BatchPlan, ClassUniformConfig, EpochSampler, TrainingCrops, build_loader
from polyscale.data import open_data
from polyscale.decoders import DecoderConfig
from polyscale.losses import LossConfig, Objective, rmi_loss
from polyscale.models import AttentionConfig, ModelConfig, MultiScaleConfig, build_model
from polyscale.models.prepare import prepare_for_use
from polyscale.multiscale import MultiScale

CLASSES = 19


class Setting(NamedTuple):
    """How large the work is."""

    device: torch.device
    seconds: float
    """To measure each piece for, after its warm-up."""
    networks: dict[str, tuple[ModelConfig, tuple[int, int], int]]
    """Name -> network, crop, crops a step."""
    image: tuple[int, int]
    rmi: tuple[int, int, int, int]


def model(backbone: str, decoder: str, stride: int | None = None) -> ModelConfig:
    """A network with random weights and fast fusion."""
    return ModelConfig(
        backbone=BackboneConfig(name=backbone, pretrained=False, output_stride=stride),
        decoder=DecoderConfig(kind=decoder),
        multiscale=MultiScaleConfig(method="hierarchical", fusion="fast", attention=AttentionConfig(channels=256)),
    )


def setting(tiny: bool, seconds: float) -> Setting:
    """The work for a GPU, or for a try."""
    if tiny:
        place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return Setting(place, 0.0, {"tiny, light": (model("tiny", "light"), (64, 64), 2)}, (64, 128), (2, 5, 64, 64))
    if not torch.cuda.is_available():
        raise SystemExit("no GPU is here; try the script with --tiny")
    networks = {
        "HRNet-W48, OCR": (model("hrnet_w48", "ocr"), (1024, 2048), 2),
        "ResNet-50, DeepLabV3+": (model("resnet50", "deeplabv3plus", 8), (800, 800), 8),
    }
    return Setting(torch.device("cuda"), seconds, networks, (1024, 2048), (2, 19, 1024, 1024))


def clocked(work: Callable[[], Any], place: Setting, warm_up: int = 3) -> dict[str, float]:
    """Median seconds of a call, the GPU's part included, and the peak of memory."""

    def once() -> float:
        start = time.perf_counter()
        work()
        _wait(place)
        return time.perf_counter() - start

    if place.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    first = once()
    for _ in range(warm_up - 1):
        once()
    taken, end = [once()], time.perf_counter() + place.seconds
    while time.perf_counter() < end:
        taken.append(once())
    peak = torch.cuda.max_memory_allocated() / 2**20 if place.device.type == "cuda" else float("nan")
    return {"seconds": statistics.median(taken), "first_seconds": first, "peak_mb": peak, "calls": len(taken)}


def _wait(place: Setting) -> None:
    if place.device.type == "cuda":
        torch.cuda.synchronize()


def peak_flops(place: Setting) -> float:
    """bf16 FLOPs a second of a large product of matrices."""
    side = 8192 if place.device.type == "cuda" else 128
    a, b = (torch.rand(side, side, device=place.device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / clocked(lambda: a @ b, place)["seconds"]


def step_of(config: ModelConfig, method: str, place: Setting) -> tuple[MultiScale, Callable[[Any, Any], None]]:
    """A network in training, and one step in bf16 on images and labels."""
    scales = config.multiscale.model_copy(update={"method": method})
    network = build_model(config.model_copy(update={"multiscale": scales}), CLASSES).to(place.device).train()
    network = network.to(memory_format=torch.channels_last)
    objective = Objective(LossConfig()).to(place.device)
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, 0.9)

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        with torch.autocast(place.device.type, torch.bfloat16):
            fused = network(images, network.train_scales)
        objective(fused, labels)["total"].backward()
        optimizer.step()
        optimizer.zero_grad()

    return network, step


def crops(number: int, crop: tuple[int, int], place: Setting) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images, and labels in blocks, as real labels are."""
    images = torch.rand(number, 3, *crop, device=place.device).contiguous(memory_format=torch.channels_last)
    blocks = torch.randint(0, CLASSES, (number, -(-crop[0] // 16), -(-crop[1] // 16)), device=place.device)
    return images, blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, : crop[0], : crop[1]].contiguous()


def training(place: Setting) -> dict[str, Any]:
    """Images a second, one scale and the pair."""
    peak, found = peak_flops(place), {}
    for name, (config, crop, number) in place.networks.items():
        for method in ("single", "hierarchical"):
            batch = crops(number, crop, place)
            _, step = step_of(config, method, place)
            measured = clocked(lambda step=step, batch=batch: step(*batch), place)
            scales = config.multiscale.model_copy(update={"method": method})
            flops = training_flops(config.model_copy(update={"multiscale": scales}), crop, CLASSES)
            rate = number / measured["seconds"]
            found[f"{name}, {'pair' if method == 'hierarchical' else 'one scale'}"] = {
                **measured,
                "images_a_second": rate,
                "gflop_an_image": flops / 1e9,
                "share_of_peak": rate * flops / peak,
            }
            del step
    return {"bf16_peak_flops_a_second": peak, "networks": found}


def inference(place: Setting) -> dict[str, Any]:
    """Three scales of one image in bf16: eager, compiled, and the kernels of a look as one CUDA graph."""
    found: dict[str, Any] = {}
    for name, (config, _, _) in place.networks.items():
        network = prepare_for_use(build_model(config, CLASSES).to(place.device))
        images = torch.rand(1, 3, *place.image, device=place.device).contiguous(memory_format=torch.channels_last)

        def look(images: torch.Tensor = images, network: MultiScale = network) -> torch.Tensor:
            with torch.inference_mode(), torch.autocast(place.device.type, torch.bfloat16):
                return network.maps(images, (2.0, 1.0, 0.5))[0][0].argmax(1)

        found[f"{name}, eager"] = clocked(look, place)
        found[f"{name}, CUDA graphs"] = _or_reason(lambda look=look: clocked(_graph(look, place), place))
        found[f"{name}, compiled"] = _or_reason(lambda look=look: clocked(torch.compile(look), place))
    for row in found.values():
        if "seconds" in row:
            row["images_a_second"] = 1 / row["seconds"]
    return found


def _graph(look: Callable[[], Any], place: Setting) -> Callable[[], Any]:
    if place.device.type != "cuda":
        raise RuntimeError("CUDA graphs need a GPU")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            look()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        look()
    return graph.replay


def rmi(place: Setting) -> dict[str, Any]:
    """Forward and backward of RMI, and whether the host waits for the GPU in it."""
    images, classes, *size = place.rmi
    logits = torch.randn(images, classes, *size, device=place.device, requires_grad=True)
    labels = crops(images, (size[0], size[1]), place)[1] % classes

    def work() -> None:
        torch.autograd.grad(rmi_loss(logits, labels), logits)

    measured: dict[str, Any] = clocked(work, place)
    if place.device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
        measured["waits_for_the_gpu"] = _or_reason(lambda: (work(), "no")[1])
        torch.cuda.set_sync_debug_mode("default")
    return measured


def waiting(place: Setting, workers: int) -> dict[str, Any]:
    """The share of a step in which data is missing, with drawn streets read from PNG files."""
    name, (config, crop, number) = next(iter(place.networks.items()))
    with tempfile.TemporaryDirectory() as folder:
        size = f"{place.image[0]}x{place.image[1]}"
        drawn = ["data", "draw", folder, "--train", str(max(8, number)), "--val", "1", "--size", size]
        if polyscale_command(drawn):
            raise RuntimeError("no streets could be drawn")
        data = open_data(folder, "train")
        sampler = EpochSampler(len(data), 0, None, ClassUniformConfig(), epoch_length=64 * number)
        plan = BatchPlan(sampler, number, 1, 1, 0, 1)
        loader = build_loader(
            TrainingCrops(data, AugmentConfig(crop=crop), 0), plan, workers, place.device.type == "cuda"
        )
        _, step = step_of(config, "hierarchical", place)
        batches, missing, working = iter(loader), [], []
        for count in range(4 if place.device.type == "cpu" else 40):
            start = time.perf_counter()
            batch = next(batches).to(place.device, channels_last=True)
            ready = time.perf_counter()
            step(batch.images, batch.labels)
            _wait(place)
            if count >= 3:  # the first ones fill the queue
                missing.append(ready - start)
                working.append(time.perf_counter() - ready)
        del batches
    return {
        "network": name,
        "workers": workers,
        "step_seconds": statistics.median(working),
        "wait_seconds": statistics.median(missing),
        "waiting_share": sum(missing) / (sum(missing) + sum(working)),
    }


def _or_reason(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:  # what a compiler or a driver raises has no common kind
        return {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"}


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8, help="to measure each piece for")
    parser.add_argument("--workers", type=int, default=8, help="processes that load images")
    parser.add_argument("--parts", nargs="*", default=["training", "inference", "rmi", "waiting"])
    parser.add_argument("--tiny", action="store_true", help="small, on any machine, to try the script")
    arguments = parser.parse_args()
    place = setting(arguments.tiny, arguments.seconds)
    torch.backends.cudnn.benchmark = True
    workers = 0 if arguments.tiny else arguments.workers
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "training": lambda: training(place),
        "inference": lambda: inference(place),
        "rmi": lambda: rmi(place),
        "waiting": lambda: waiting(place, workers),
    }
    started, found = time.perf_counter(), {}
    for name in arguments.parts:
        found[name] = _or_reason(parts[name])
        table = found[name].get("networks", found[name])
        nested = {key: row for key, row in table.items() if isinstance(row, dict)} or {name: table}
        rows = [[key, ", ".join(f"{k} {_short(v)}" for k, v in row.items())] for key, row in nested.items()]
        show(f"{name}, {time.perf_counter() - started:.0f} s after the start", ["", "found"], rows)
    if not arguments.tiny:
        save("gpu", {"seconds": time.perf_counter() - started, "parts": found})


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
