"""Two-step training losses of each method, to the last bit: a refactoring must not change them.

    python benchmarks/golden_losses.py --record golden.json     # before a change
    python benchmarks/golden_losses.py --check golden.json      # after it, on the same machine

Losses depend on the processor and on PyTorch's version, so the file is not kept in the repository.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

STREETS = ["augment.crop=[64,96]", "training.batch_size=2", "loss.class_weights=none"]
HRNET = [
    "model.backbone.name=hrnet_w18_small",
    "model.backbone.pretrained=false",
    "model.decoder.kind=ocr",
    "augment.crop=[64,96]",
    "training.batch_size=2",
    "loss.main=rmi",
    "loss.aux=bce",
]
METHODS = ("single", "average", "explicit", "hierarchical")


def losses(data: Path, out: Path, method: str, settings: list[str]) -> list[dict[str, float]]:
    """Every term of the loss at both steps, as the log has them."""
    command = [sys.executable, "-m", "polyscale", "train", str(out / "recipe.yaml"), "--out", str(out / "run")]
    fixed = [
        f"data.train.root={data}",
        f"data.val.root={data}",
        f"model.multiscale.method={method}",
        "training.log_every=1",
    ]
    fixed += ["training.log_every=1", "training.epochs=1", "training.epoch_length=4"]
    fixed += ["training.tracker=none", "training.check_data=false"]
    recipe = {"data": {"train": {"kind": "folder", "split": "train"}, "val": {"kind": "folder", "split": "val"}}}
    out.mkdir()
    (out / "recipe.yaml").write_text(json.dumps(recipe))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *fixed, *settings], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{method}: {done.stderr or done.stdout}")
    lines = [json.loads(line) for line in (out / "run" / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def measure() -> dict[str, list[dict[str, float]]]:
    """Losses by case."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        draw = [sys.executable, "-m", "polyscale", "data", "draw", str(work / "data"), "--train", "4", "--val", "1"]
        subprocess.run(draw, check=True, capture_output=True)
        cases = {"streets": STREETS, "hrnet-ocr": HRNET}
        return {
            f"{case} {method}": losses(work / "data", work / f"{case}-{method}", method, settings)
            for case, settings in cases.items()
            for method in METHODS
        }


def main() -> None:
    """Record or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, help="write the losses here")
    parser.add_argument("--check", type=Path, help="compare with the losses in this file")
    options = parser.parse_args()
    found = measure()
    if options.record:
        options.record.write_text(json.dumps(found, indent=1))
        print(f"written: {options.record}")
    if options.check:
        wanted = json.loads(options.check.read_text())
        different = [case for case in wanted if found.get(case) != wanted[case]]
        for case in different:
            print(f"{case}: was {wanted[case]}, is {found.get(case)}")
        print(f"{len(wanted) - len(different)} of {len(wanted)} cases are bit-identical")
        raise SystemExit(bool(different))


if __name__ == "__main__":
    main()
