"""Compare with stored results of the authors' implementation: ``python benchmarks/parity.py DIR``, or ``make parity``.

``DIR`` holds ``CASE.npz`` and describes each in ``manifests/CASE.json``, or a folder ``open`` beside it does. Networks
are built by the import of the authors' checkpoints. A line a case: its name, the largest error over its tolerance, pass
or fail, and where the error is. The exit status is 0 only where there are cases and all of them pass.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from golden_cases import LEFT_OUT, compare, run_case
from golden_rule import GoldenError

from polyscale.errors import UserError

__all__ = ["check_case", "main"]


def check_case(folder, case):
    """(largest error over its tolerance, name of that array); infinite with the reason where nothing was compared."""
    try:
        manifest = json.loads(_manifest_file(folder, case).read_text(encoding="utf-8"))
        with np.load(folder / f"{case}.npz", allow_pickle=False) as file:
            golden = {name: file[name] for name in file.files}
        missing = [name for name in golden if name not in manifest["outputs"]]
        missing += [name for name in manifest["outputs"] if name not in golden]
        if missing:
            raise GoldenError(f"{missing[0]} is not both in the npz and in the manifest")
        given = run_case(manifest)
        errors = {name: compare(name, given[name], golden[name]) for name in golden if name not in LEFT_OUT}
        if not errors:
            raise GoldenError("it holds nothing to compare")
    except FileNotFoundError as error:
        return np.inf, f"there is no {error.filename}"
    except KeyError as error:
        return np.inf, f"the manifest has no {error}"
    except (GoldenError, UserError) as error:
        return np.inf, str(error)
    except Exception as error:  # a file of any kind of damage is one case that fails
        return np.inf, " ".join(f"{type(error).__name__}: {error}".split())[:300]
    worst = max(errors, key=errors.get)
    return errors[worst], worst


def _manifest_file(folder, case):
    own, shared = (place / "manifests" / f"{case}.json" for place in (folder, folder.parent / "open"))
    return shared if shared.exists() and not own.exists() else own


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds CASE.npz and manifests/CASE.json")
    parser.add_argument("--case", action="append", help="only this case; may be given several times")
    options = parser.parse_args(arguments)
    cases = sorted(path.stem for path in options.folder.glob("*.npz"))
    if options.case:
        absent = [case for case in options.case if case not in cases]
        if absent:
            print(
                f"error: {options.folder} has no {absent[0]}.npz; it has {', '.join(cases) or 'none'}", file=sys.stderr
            )
            return 2
        cases = sorted(options.case)
    if not cases:
        print(f"error: no CASE.npz in {options.folder}; name the folder of the stored cases", file=sys.stderr)
        return 2
    num_failed = 0
    for case in cases:
        start = time.perf_counter()
        error, where = check_case(options.folder, case)
        passed = error <= 1
        num_failed += not passed
        shown = "    -   " if error == np.inf else f"{error:8.4f}"
        print(
            f"{case:42} {shown} {'pass' if passed else 'fail'}  {where} ({time.perf_counter() - start:.0f} s)",
            flush=True,
        )
    print(f"{len(cases) - num_failed} of {len(cases)} cases pass (errors over their tolerances; 1 is the limit)")
    return 1 if num_failed else 0


if __name__ == "__main__":
    sys.exit(main())
