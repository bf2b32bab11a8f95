"""Adam against its equations and against PyTorch's class, bit for bit."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from somlib.training.adam import Adam

SHAPES = [(5, 3), (4, 5, 3), (7,), (1, 1), ()]  # (4, 5, 3) and (7,): a layer of 4 seeds, a bias


def parameters(dtype):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in SHAPES]


def gradients(steps, dtype, like):
    """Yield one gradient, or None, for each parameter: the last has its first one in step 10."""
    generator = torch.Generator().manual_seed(4)
    for t in range(steps):
        drawn = [torch.randn(p.shape, generator=generator, dtype=dtype) for p in like]
        absent = {k for k in range(len(like)) if (t + k) % 3 == 0 or (k == 4 and t < 10)}
        yield [None if k in absent else g / 10**k for k, g in enumerate(drawn)]


def trained(optimizer, params, steps, dtype):
    for given in gradients(steps, dtype, params):
        for p, gradient in zip(params, given, strict=True):
            p.grad = gradient
        optimizer.step()
    return params


def bits(tensors):
    return [t.detach().numpy().tobytes() for t in tensors]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fused", [True, None])
def test_parameters_and_moments_equal_those_of_pytorch_bit_for_bit(dtype, fused):
    ours, theirs = parameters(dtype), parameters(dtype)
    adam = Adam(ours, 0.01, fused=fused)
    other = torch.optim.Adam(theirs, lr=0.01, eps=1e-7, fused=fused)
    trained(adam, ours, 50, dtype)
    trained(other, theirs, 50, dtype)
    assert bits(ours) == bits(theirs)
    for k, p in enumerate(theirs):
        assert adam.moments[k].keys() == other.state[p].keys()
        assert bits(adam.moments[k].values()) == bits(other.state[p].values())
    assert [int(entry["step"]) for entry in adam.moments.values()] != 5 * [50]


def test_a_step_is_that_of_the_equations():
    ours, dtype = parameters(torch.float64), torch.float64
    m, v, t = ([np.zeros(p.shape) for p in ours], [np.zeros(p.shape) for p in ours], 5 * [0])
    theta = [p.numpy().copy() for p in ours]
    for given in gradients(50, dtype, ours):
        for k, gradient in enumerate(given):
            if gradient is None:
                continue
            g, t[k] = gradient.numpy(), t[k] + 1
            m[k] = 0.9 * m[k] + 0.1 * g
            v[k] = 0.999 * v[k] + 0.001 * g**2
            corrected = m[k] / (1 - 0.9 ** t[k]), v[k] / (1 - 0.999 ** t[k])
            theta[k] = theta[k] - 0.01 * corrected[0] / (np.sqrt(corrected[1]) + 1e-7)
    trained(Adam(ours, 0.01, fused=True), ours, 50, dtype)
    for p, expected in zip(ours, theta, strict=True):
        np.testing.assert_allclose(p, expected, rtol=0, atol=1e-13)


def test_resumed_from_its_moments_it_goes_on_and_leaves_them_as_they_are():
    whole, dtype = parameters(torch.float32), torch.float32
    given = list(gradients(50, dtype, whole))

    def run(adam, steps):
        for step in steps:
            for p, gradient in zip(adam.parameters, step, strict=True):
                p.grad = gradient
            adam.step()

    run(Adam(whole, 0.01, fused=True), given)
    parts = parameters(torch.float32)
    first, second = (Adam(parts, 0.01, fused=True) for _ in range(2))
    run(first, given[:8])  # before the last parameter had its first gradient
    assert 4 not in first.moments
    kept = {k: bits(entry.values()) for k, entry in first.moments.items()}
    second.resume(first.moments)
    run(second, given[8:])
    assert bits(parts) == bits(whole)
    assert {k: bits(entry.values()) for k, entry in first.moments.items()} == kept


def test_after_zero_grad_a_step_changes_nothing():
    params = parameters(torch.float32)
    adam = Adam(params, 0.01, fused=True)
    trained(adam, params, 3, torch.float32)
    before = bits(params)
    adam.zero_grad()
    adam.step()
    assert bits(params) == before


def test_training_does_not_import_the_compiler_of_pytorch():
    code = (
        "import numpy as np, sys; from somlib import DESOM, SOM, SOMRL; X = np.eye(12)\n"
        "DESOM((2, 2), hidden=(3,), n_iter=2, batch_size=6).fit(X)\n"
        "SOMRL(n_iter=2, batch_size=6).fit(X)\n"
        "SOM(mode='sgd', n_epochs=1).fit(X)\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
