"""The rule by which weights, inputs and labels of the golden cases are made again from their names.

Nothing of the reference's is stored but names, shapes and results: a tensor's values are a function of its name. The
folder's own README gives the rule; this follows it word by word.
"""

import hashlib
from functools import lru_cache

import numpy as np

__all__ = ["GoldenError", "input_of", "labels_of", "weights_of"]


class GoldenError(Exception):
    """A case that does not fit its own description: nothing can be compared."""


def _draws(name):
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.Philox(key=key))


def _gain(key):
    if ".stage" in key:
        return 0.5
    return 1.25 if key.startswith(("backbone.", "trunk.")) else 1.0


def _weight(key, shape):
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    x = _draws(key).standard_normal(shape, dtype=np.float32)
    if key.endswith("running_var"):
        return 1 + np.float32(0.1) * np.abs(x)
    if key.endswith(("running_mean", "bias")):
        return np.float32(0.1) * x
    if x.ndim == 1:
        return 1 + np.float32(0.1) * x
    return x * np.float32(np.sqrt(_gain(key) / np.prod(shape[1:])))


def weights_of(manifest):
    """Name -> array for every tensor of the case's network, in the reference's order.

    Raises:
        GoldenError: their fingerprint is not the manifest's.
    """
    entries = tuple((key, tuple(shape)) for key, shape in manifest["state_dict"])
    arrays, digest = _weights(entries)
    if digest != manifest["weights_sha256"]:
        raise GoldenError(f"the weights' sha256 is {digest[:12]}…, the manifest's {manifest['weights_sha256'][:12]}…")
    return arrays


@lru_cache(maxsize=1)  # most cases share a network with the one before them
def _weights(entries):
    digest, arrays = hashlib.sha256(), {}
    for key, shape in entries:
        arrays[key] = _weight(key, shape)
        digest.update(arrays[key].tobytes())
    return arrays, digest.hexdigest()


def input_of(manifest):
    """The case's images, or logits for a loss, float32.

    Raises:
        GoldenError: their fingerprint is not the manifest's.
    """
    described = manifest["input"]
    x = _draws(described["rng_string"]).standard_normal(tuple(described["shape"]), dtype=np.float32)
    if manifest.get("label_kind") == "correlated":
        labels = labels_of(manifest)
        places = np.nonzero(labels != manifest["ignore_label"])
        raised = x.copy()
        raised[places[0], labels[places], places[1], places[2]] += np.float32(4)
        # Whether the fingerprint was taken before or after this is not said: either will do.
        if _sha(raised) == described["sha256"]:
            return raised
        _check("input", x, described)
        return raised
    _check("input", x, described)
    return x


def labels_of(manifest):
    """The case's labels, int64.

    Raises:
        GoldenError: their fingerprint is not the manifest's.
    """
    described, ignore = manifest["labels"], manifest["ignore_label"]
    num_images, height, width = described["shape"]
    kind = manifest.get("label_kind", "plain")
    if kind == "all_ignored":
        labels = np.full(described["shape"], ignore, np.int64)
    elif kind == "single_class":
        labels = np.full(described["shape"], 3, np.int64)
    elif kind in ("plain", "correlated"):
        draws = _draws(described["rng_string"])
        blocks = draws.integers(0, manifest["num_classes"], (num_images, -(-height // 8), -(-width // 8)), np.int64)
        blocks[draws.random(blocks.shape) < 0.1] = ignore
        labels = blocks.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    else:
        raise GoldenError(f"label_kind {kind!r} is not known")
    _check("labels", labels, described)
    return labels


def _sha(x):
    return hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()


def _check(what, x, described):
    if _sha(x) != described["sha256"]:
        raise GoldenError(f"the {what}'s sha256 is {_sha(x)[:12]}…, the manifest's {described['sha256'][:12]}…")
