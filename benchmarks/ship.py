"""Make a run's network one that ships with the package: half precision, and the facts that `polyscale models` shows.

python benchmarks/ship.py runs/attended camvid-lite0 trained_on="CamVid, train" licence="data: non-commercial research"
"""

import argparse
from pathlib import Path

from polyscale.models.checkpoint import load_checkpoint, read_metadata, save_checkpoint
from polyscale.models.finding import SHIPPED

LARGEST = 8_000_000


def main() -> None:
    """Write one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder or a checkpoint")
    parser.add_argument("name", help="what the network will be called")
    parser.add_argument("facts", nargs="*", metavar="key=value", help="trained_on, split, resolution, score, licence …")
    options = parser.parse_args()
    checkpoint, metadata = load_checkpoint(options.run), read_metadata(options.run)
    facts = dict(fact.split("=", 1) for fact in options.facts)
    out = SHIPPED / f"{options.name}.safetensors"
    save_checkpoint(out, checkpoint.model, checkpoint.label_space, {**metadata.info, **facts}, half=True)
    size = out.stat().st_size
    print(f"{out.name}: {size / 1e6:.2f} MB, {sum(p.numel() for p in checkpoint.model.parameters()):,} parameters")
    if size > LARGEST:
        out.unlink()
        raise SystemExit(f"larger than {LARGEST / 1e6:.0f} MB: not shipped")


if __name__ == "__main__":
    main()
