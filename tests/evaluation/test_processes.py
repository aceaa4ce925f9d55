"""Two processes score every image once, and to the last bit like one."""

import json
import os
import subprocess
import sys

import pytest
import torch

from polyscale.evaluation import evaluate
from polyscale.processes import largest_over_ranks, rank_and_world, sum_over_ranks


def test_one_process_is_its_own_sum():
    counts = torch.tensor([1, 2])
    sum_over_ranks([counts], torch.device("cpu"))
    assert counts.tolist() == [1, 2]
    assert largest_over_ranks([3, -4], torch.device("cpu")) == [3, -4]
    assert rank_and_world() == (0, 1)


@pytest.mark.slow
def test_two_processes_equal_one(fakes, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    outputs = [tmp_path / f"{rank}.json" for rank in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, fakes.__file__, str(rank), "2", str(tmp_path / "store"), str(output)], env=environment
        )
        for rank, output in enumerate(outputs)
    ]
    try:
        assert [process.wait(timeout=600) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    results = [json.loads(output.read_text()) for output in outputs]

    sizes = [(23, 31), (20, 40), (31, 17), (24, 24), (19, 37)]
    data = fakes.Toys(sizes)
    alone = evaluate(fakes.network("hierarchical"), data, (0.5, 1, 2), flip=True, compare=True)
    lonely = evaluate(fakes.network("single"), fakes.Toys(sizes[:1]))
    pixels = sum(height * (width - 2) for height, width in sizes)
    assert [result["progress"] for result in results] == [[[1, 3], [2, 3], [3, 3]], [[1, 2], [2, 2]]]
    for result in results:
        for name, single in (("full", alone), ("lonely", lonely)):
            assert result[name]["rows"] == json.loads(json.dumps(single.to_json()["rows"]))
            assert result[name]["attention"] == json.loads(json.dumps(single.to_json()["attention"]))
        assert result["full"]["rows"]["fused"]["num_pixels"] == pixels
        assert result["full"]["metadata"]["num_images"] == 5
        assert result["full"]["metadata"]["processes"] == 2
        assert result["full"]["metadata"]["image_size"] == alone.metadata["image_size"] == "19x17 to 31x40"
        assert result["lonely"]["metadata"]["num_images"] == 1
        assert result["lonely"]["metadata"]["image_size"] == "23x31"
