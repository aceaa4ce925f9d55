"""A small part of the reliability campaign; all of it is run by ``make fuzz`` and ``make faults``."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from campaign.mutation import mutate
from campaign.samples import KINDS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def campaign(module, *arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(BENCHMARKS), *sys.path]), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", f"campaign.{module}", *arguments]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_damaged_files_are_read_or_refused_in_one_line():
    done = campaign("fuzz", "--each", "8", "--seed", "7")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert ", 0 finds" in done.stdout.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("--only", "kills", "--kills", "4", "--commands", "predict", "data convert"),
        ("--only", "disk", "together", "--commands", "evaluate"),
    ],
)
def test_commands_come_to_the_same_end(arguments):
    done = campaign("faults", *arguments)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "all held" in done.stdout


def test_the_campaign_sees_what_it_looks_for(tmp_path):
    """A reader that raises anything, and one that reads too long, are finds."""
    from campaign.fuzz import attempt

    kind = next(kind for kind in KINDS if kind.name == "label space")
    kind.build(tmp_path)

    def broken(_):
        raise KeyError("bytes")

    assert attempt(kind, 0, tmp_path).outcome == "read"
    assert attempt(kind._replace(read=broken), 0, tmp_path).is_find
    (tmp_path / kind.target).write_text("classes: 3")
    assert attempt(kind, 0, tmp_path).outcome == "refused"


def write_graph(path):
    onnx = pytest.importorskip("onnx")
    images, logits = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, channels, 8, 8])
        for name, channels in (("images", 3), ("logits", 2))
    )
    kernel = onnx.numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "kernel")
    nodes = [
        onnx.helper.make_node("Conv", ["images", "kernel"], ["found"], kernel_shape=[1, 1]),
        onnx.helper.make_node("Relu", ["found"], ["logits"]),
    ]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "graph", [images], [logits], [kernel]))
    model.metadata_props.add(key="polyscale", value='{"version": "1", "export": {"scales": [1, 0.5], "size": null}}')
    onnx.save(model, path)


@pytest.mark.parametrize("form", ["bytes", "png", "zip", "safetensors", "onnx", "json", "lines", "text"])
def test_damage_is_that_of_the_seed(tmp_path, form):
    kind = next(kind for kind in KINDS if kind.form == form)
    if form == "onnx":  # a graph of one convolution in place of an exported network, which takes long to make
        write_graph(tmp_path / kind.target)
    else:
        kind.build(tmp_path)
    sound = (tmp_path / kind.target).read_bytes()
    copies = [mutate(sound, form, random.Random(number)) for number in range(30)]
    assert copies == [mutate(sound, form, random.Random(number)) for number in range(30)]
    assert sum(copy != sound for copy in copies) > 20
