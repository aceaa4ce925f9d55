"""The table of attention: shares of the chain by hand, by class, summing to one."""

import pytest
import torch

from polyscale.evaluation import AttentionTotals, evaluate
from polyscale.labels import IGNORE
from polyscale.multiscale import fuse, look

SIZES = [(23, 31), (20, 40), (31, 17)]


def test_a_constant_attention_gives_the_products_down_the_chain(fakes):
    model = fakes.network("hierarchical")
    torch.nn.init.zeros_(model.segmenter.attention.weight)
    table = evaluate(model, fakes.Toys(SIZES), (0.5, 1, 2)).attention
    assert table.scales == (2, 1, 0.5)
    assert table.overall == (0.25, 0.25, 0.5)
    assert table.per_class[:3] == ((0.25, 0.25, 0.5),) * 3
    assert table.per_class[3] is None


@pytest.mark.parametrize("method", ["hierarchical", "explicit"])
def test_shares_sum_to_one_and_differ_by_class(fakes, method):
    table = evaluate(fakes.network(method), fakes.Toys(SIZES), (0.5, 1, 2)).attention
    for shares in (table.overall, *table.per_class[:3]):
        assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert len(set(table.per_class[:3])) == 3


def test_the_table_is_the_mean_of_the_weights_over_true_pixels(fakes):
    model, data = fakes.network("explicit"), fakes.Toys(SIZES)
    table = evaluate(model, data, (0.5, 1, 2)).attention
    weights, labels = [], []
    with torch.no_grad():
        for index in range(len(data)):
            sample = data.read(index)
            views = model(torch.tensor(sample.image).permute(2, 0, 1)[None] / 255).views
            weights.append(torch.cat([views[scale].attention for scale in table.scales], 1)[0].flatten(1))
            labels.append(torch.tensor(sample.labels).flatten())
    weights, labels = torch.cat(weights, 1), torch.cat(labels)
    for k, shares in enumerate(table.per_class[:3]):
        assert shares == pytest.approx(weights[:, labels == k].mean(1).tolist(), abs=2e-6)
    assert table.overall == pytest.approx(weights[:, labels != IGNORE].mean(1).tolist(), abs=2e-6)


def test_shares_are_the_weights_of_the_logits_in_the_result(fakes):
    # A segmenter whose logits are the same everywhere tells each scale's weight by its result.
    model, data = fakes.network("hierarchical"), fakes.Toys([(24, 32)])
    sample = data.read(0)
    image = torch.tensor(sample.image).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        views = {scale: look(model.segmenter, image, scale) for scale in (0.5, 1.0, 2.0)}
    table = evaluate(model, data, (0.5, 1, 2)).attention
    valid = torch.tensor(sample.labels) != IGNORE
    for position, scale in enumerate(table.scales):
        marked = {
            s: v._replace(logits=torch.full_like(v.logits, float(s == scale)), aux=None) for s, v in views.items()
        }
        share = fuse(marked).logits[0, 0][valid].mean().item()
        assert table.overall[position] == pytest.approx(share, abs=1e-5)


def test_totals_are_exact_in_any_order():
    generator = torch.Generator().manual_seed(0)
    images = []
    for _ in range(3):
        labels = torch.randint(0, 3, (9, 11), generator=generator, dtype=torch.uint8)
        labels[0] = IGNORE
        images.append(({1.0: torch.rand(1, 1, 9, 11, generator=generator)}, labels))
    forward, backward = (AttentionTotals("abc", (1,)) for _ in range(2))
    for one, other in zip(images, reversed(images), strict=True):
        forward.update(*one)
        backward.update(*other)
    assert forward.compute() == backward.compute()
    assert forward.compute().to_json()["per_class"]["a"]["1"] == pytest.approx(0.5, abs=0.1)
