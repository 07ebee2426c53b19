"""Muon, the moving average and the learning rate do what their formulas say."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from bedgen_utils.optim import EMA, Muon, is_filters, learning_rate, orthogonalize


def test_learning_rate_rises_stays_and_falls():
    rates = [learning_rate(step, 1000, 2.0, 100) for step in range(1, 1001)]
    assert rates[0] == pytest.approx(0.02) and rates[49] == pytest.approx(1.0)
    assert rates[98] < 2.0 and all(rate == pytest.approx(2.0) for rate in rates[99:600])
    assert rates[600] < 2.0  # from there it falls evenly to a twentieth
    assert rates[799] == pytest.approx(2 * (0.05 + 0.95 * 0.5))
    assert rates[-1] == pytest.approx(0.1)
    assert learning_rate(1, 10, 3.0) == pytest.approx(3.0)


def test_ema_is_the_weighted_sum_it_claims():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema = EMA(copy.deepcopy(network), 0.6)
    expected = network[0].weight.detach().clone()
    for step in range(1, 20):
        nn.init.normal_(network[0].weight)
        network(torch.randn(8, 2))  # moves the buffers
        ema.update(network, step)
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * network[0].weight.detach()
    torch.testing.assert_close(ema.average[0].weight, expected)
    assert torch.equal(ema.average[1].running_mean, network[1].running_mean)
    assert ema.average[1].num_batches_tracked == 19
    assert not ema.average.training and not ema.average[0].weight.requires_grad


@pytest.mark.parametrize("shape", [(8, 72), (40, 12), (3, 16, 16)])
def test_orthogonalize_moves_each_singular_value_by_the_polynomial(shape):
    M = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    U, S, V = np.linalg.svd(M.numpy(), full_matrices=False)
    s = S / np.linalg.norm(M.numpy(), axis=(-2, -1))[..., None]
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    wanted = (U * s[..., None, :]) @ V
    np.testing.assert_allclose(orthogonalize(M).numpy(), wanted, atol=1e-12)
    np.testing.assert_allclose(orthogonalize(1e-6 * M.float()).numpy(), wanted, atol=1e-4)
    assert torch.equal(orthogonalize(torch.zeros(shape)), torch.zeros(shape))


def test_muon_steps_as_torch_does_up_to_its_bfloat16():
    g = torch.Generator().manual_seed(0)
    ours = nn.Parameter(torch.randn(16, 48, generator=g))
    theirs = nn.Parameter(ours.detach().clone())
    start = ours.detach().clone()
    settings = {"lr": 0.05, "weight_decay": 0.1}
    steppers = (
        Muon([ours], **settings),
        torch.optim.Muon([theirs], **settings, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(5):
        ours.grad = torch.randn(16, 48, generator=g)
        theirs.grad = ours.grad.clone()
        for stepper in steppers:
            stepper.step()
    moved, difference = (theirs - start).norm(), (ours - theirs).norm()
    assert difference < 0.02 * moved  # 8 bits of mantissa: 0.4 % a product
    with pytest.raises(ValueError, match="closure"):
        steppers[0].step(lambda: None)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_muon_takes_filters_as_matrices_in_either_memory_format(memory):
    g = torch.Generator().manual_seed(0)
    start, gradient = torch.randn(2, 12, 8, 3, 3, generator=g)
    filters = nn.Parameter(start.contiguous(memory_format=memory))
    matrix = nn.Parameter(start.flatten(1))
    filters.grad, matrix.grad = gradient.contiguous(memory_format=memory), gradient.flatten(1)
    untouched = nn.Parameter(torch.ones(8, 8))
    Muon([filters, matrix, untouched], lr=0.1).step()
    # The order of a matrix's columns goes through U Vᵀ unchanged, so any order of the filters'
    # entries will do.
    torch.testing.assert_close(filters.detach().flatten(1), matrix.detach(), rtol=0, atol=1e-5)
    assert torch.equal(untouched, torch.ones(8, 8))  # no gradient, no step
    assert is_filters(filters) and not is_filters(matrix)
    assert not is_filters(nn.Conv2d(3, 16, 3).weight)
