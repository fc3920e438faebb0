"""A step's operations are those of its products, whatever calls make them."""

import pytest
import torch

from benchmarks.peak import operations_of, peak_of_products
from frozen_vqa.pipeline.model.patch_attention import PatchAttention


def test_products_are_counted_forwards_and_backwards() -> None:
    x, y = torch.ones(3, 5, requires_grad=True), torch.ones(5, 7, requires_grad=True)
    one = 2 * 3 * 5 * 7
    assert operations_of(lambda: x @ y) == one
    assert operations_of(lambda: (x @ y).sum().backward()) == 3 * one


def test_our_own_gradient_is_counted() -> None:
    """Its products write into memory that is there."""
    weights = torch.rand(2, 3, 4, 6, requires_grad=True)
    values = torch.rand(2, 3, 4, 5, requires_grad=True)
    attention = PatchAttention(weights, values, torch.rand(2, 1, 6, 5))
    found = operations_of(lambda: attention.mean_of_relu().sum().backward())
    assert found == 3 * 2 * (2 * 3) * 6 * 4 * 5


def test_the_peak_is_of_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("benchmarks.peak").peak.SIZES, "cpu", 64)
    assert peak_of_products(torch.device("cpu"), torch.float32, seconds=0.0) > 0
