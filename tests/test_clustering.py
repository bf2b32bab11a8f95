"""The baselines against literal transcriptions of their losses and rules, and their promises."""

import sys

import numpy as np
import pytest
import torch
from minisom import MiniSom
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

import somlib
from somlib import data, metrics
from somlib.models.autoencoders import Autoencoder
from somlib.models.baselines import (
    AEC,
    DCN,
    DEC,
    IDEC,
    SOMVAE,
    DeepKMeans,
    DeepNeuralMaps,
    Kerasom,
    MiniSomMap,
    VaDE,
    annealed,
    expected_log_density,
    kl_divergence,
    kohonen_step,
    lloyd_step,
    merge_prototypes,
    relaxed_kmeans,
    running_mean,
    soft_assignment,
    target_distribution,
)
from somlib.models.som import SOM
from somlib.spaces import Grid
from somlib.training import fit_seeds
from somlib.training.network import NoiseSource, stacked

rng = np.random.default_rng(42)
X = rng.random((40, 6))
SMALL = {"hidden": (5,), "latent_dim": 3, "batch_size": 8, "n_iter": 12, "device": "cpu"}
AE = {"pretrain_epochs": 2}
MODELS = {
    "kerasom": Kerasom((2, 3), n_iter=12, batch_size=8, device="cpu"),
    "dec": DEC(3, update_interval=5, **SMALL, **AE),
    "idec": IDEC(3, update_interval=5, **SMALL, **AE),
    "dcn": DCN(3, gamma=0.1, **SMALL, **AE),
    "aec": AEC(3, gamma=0.1, **SMALL, **AE),
    "dkm": DeepKMeans(3, gamma=0.1, alpha=0.1, n_alphas=4, **SMALL, **AE),
    "dnm": DeepNeuralMaps((2, 3), update_interval=5, **SMALL, **AE),
    "vade": VaDE(3, **SMALL, **AE),
    "somvae": SOMVAE((2, 3), **SMALL, **AE),
    "somvae conv": SOMVAE(
        (2, 3), **SMALL | {"hidden": (2, 3)}, architecture="conv", image_shape=(2, 3)
    ),
}
ALL = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
EMBEDDED = [name for name in MODELS if name != "kerasom"]


def tensor(*shape):
    return torch.from_numpy(rng.random(shape))


def built(model, S=2, B=7, d=6):
    """Networks of S seeds as one, in float64 with random centers, a batch (B, d), and its rows."""
    networks = [model._build(d, torch.Generator().manual_seed(s)).double() for s in range(S)]
    with torch.no_grad():
        for network in networks:
            for name, parameter in network.named_parameters():
                if not name.startswith(("encoder", "decoder")):
                    parameter.copy_(tensor(*parameter.shape))
                elif "bias" in name:
                    parameter.copy_(0.1 * tensor(*parameter.shape))
    return stacked(networks), tensor(B, d), torch.arange(B)


def give_target(network, K):
    """Set a random target of 40 samples for each of two seeds."""
    network.target, network.changed = target_distribution(tensor(2, 40, K)), torch.zeros(2).double()


def iterate(network, x, rows, **arguments):
    """Return the losses of an iteration; their gradient is taken where the loop takes its step."""
    for losses, _ in network.updates(x, rows, **arguments):
        losses["loss"].sum().backward()
    return losses


def layers(part, s):
    """The layers of seed s as a function of one sample, written out."""
    both = [(m.weight[s].detach().numpy(), m.bias[s, 0].detach().numpy()) for m in part.layers]

    def through(x):
        for n, (W, b) in enumerate(both, start=1):
            x = np.array([sum(x[i] * W[i, j] for i in range(len(x))) + b[j] for j in range(len(b))])
            if n < len(both):
                x = np.maximum(x, 0)
        return x

    return through


def literal_q(z, m):
    t = [1 / (1 + sum((z[j] - m_k[j]) ** 2 for j in range(len(z)))) for m_k in m]
    return np.array([t_k / sum(t) for t_k in t])


def literal_parts(network, x, s):
    """Codes, centers, reconstructions of seed s."""
    encode, decode = layers(network.encoder, s), layers(network.decoder, s)
    z = np.stack([encode(x_i) for x_i in x.numpy()])
    return z, network.centers[s].detach().numpy().copy(), decode


def mse(x, decoded):
    total = 0.0
    for x_i, y_i in zip(x.numpy(), decoded, strict=True):
        total += sum((a - b) ** 2 for a, b in zip(x_i, y_i, strict=True)) / len(x_i)
    return total / len(x)


# ---------------------------------------------------------------- the formulas


def test_assignments_targets_and_their_divergence_are_the_papers_sums():
    z, m = tensor(2, 9, 4), tensor(2, 5, 4)
    q = soft_assignment(z, m)
    p = target_distribution(q)
    assert p.sum(-1).numpy() == pytest.approx(1)
    for s in range(2):
        literal = np.stack([literal_q(z_i, m[s].numpy()) for z_i in z[s].numpy()])
        assert q[s].numpy() == pytest.approx(literal)
        f = [sum(literal[i, k] for i in range(9)) for k in range(5)]
        kl = 0.0
        for i in range(9):
            w = [literal[i, k] ** 2 / f[k] for k in range(5)]
            for k in range(5):
                assert p[s, i, k].item() == pytest.approx(w[k] / sum(w))
                kl += w[k] / sum(w) * np.log(w[k] / sum(w) / literal[i, k])
        assert kl_divergence(p, q)[s].item() == pytest.approx(kl / 9)


def test_a_target_of_nothing_adds_nothing_to_the_divergence():
    p, q = torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[0.5, 0.5]]])
    assert kl_divergence(p, q).item() == pytest.approx(np.log(2))


def test_running_mean_is_yangs_rule_sample_by_sample():
    m, z, counts = tensor(2, 4, 3), tensor(2, 11, 3), torch.full((2, 4), 5.0).double()
    chi = torch.from_numpy(rng.integers(0, 3, (2, 11)))  # the last center is given nothing
    centers, total = running_mean(m, counts, z, chi)
    for s in range(2):
        literal, c = m[s].numpy().copy(), np.full(4, 5.0)
        for i in range(11):
            k = chi[s, i]
            c[k] += 1
            literal[k] -= (literal[k] - z[s, i].numpy()) / c[k]
        assert centers[s].numpy() == pytest.approx(literal)
        assert total[s].numpy() == pytest.approx(c)
    assert centers[:, 3].equal(m[:, 3])


def test_lloyd_step_is_an_iteration_of_kmeans_and_leaves_centers_without_codes():
    m, Z = tensor(2, 4, 3), tensor(2, 11, 3)
    m[:, 3] += 9  # far from all codes
    centers, chi = lloyd_step(m, Z)
    for s in range(2):
        nearest = [min(range(4), key=lambda k: ((z - m[s, k]) ** 2).sum()) for z in Z[s]]
        assert chi[s].tolist() == nearest
        for k in set(nearest):
            mean = sum(Z[s, i].numpy() for i in range(11) if nearest[i] == k) / nearest.count(k)
            assert centers[s, k].numpy() == pytest.approx(mean)
    assert centers[:, 3].equal(m[:, 3])
    assert not centers.isnan().any()


def test_relaxed_kmeans_goes_from_the_mean_over_centers_to_the_kmeans_loss():
    z, m = tensor(2, 9, 4), tensor(2, 5, 4)
    d2 = ((z[:, :, None] - m[:, None]) ** 2).sum(-1)
    assert relaxed_kmeans(z, m, 0.0).numpy() == pytest.approx(d2.mean((1, 2)).numpy())
    assert relaxed_kmeans(z, m, 1e6).numpy() == pytest.approx(d2.amin(-1).mean(-1).numpy())
    between = relaxed_kmeans(z, m, 3.0)
    assert (between < d2.mean((1, 2))).all()
    assert (between > d2.amin(-1).mean(-1)).all()


def test_alpha_is_annealed_by_fards_recursion_in_equal_parts():
    alphas = [0.1]
    for n in range(1, 40):
        alphas.append(2 ** (1 / np.log(n + 1) ** 2) * alphas[-1])
    assert annealed(0.1, 40) == pytest.approx(alphas)
    assert annealed(1000.0, 1).tolist() == [1000.0]
    model = DeepKMeans(3, alpha=0.1, n_alphas=40, **SMALL | {"n_iter": 80})
    values = model._build(6, torch.Generator()).schedules(80)["alpha"]
    assert values == pytest.approx(np.repeat(alphas, 2))


def test_kohonen_step_presents_the_batch_sample_by_sample():
    m, z, h = tensor(2, 4, 3), tensor(2, 11, 3), tensor(2, 11, 4)
    moved = kohonen_step(m, z, h, torch.tensor(0.6, dtype=torch.float64))
    for s in range(2):
        literal = m[s].numpy().copy()
        for i in range(11):
            for k in range(4):
                literal[k] += 0.6 * h[s, i, k].item() * (z[s, i].numpy() - literal[k])
        assert moved[s].numpy() == pytest.approx(literal, rel=1e-12)


def test_merging_prototypes_gives_samples_the_cluster_of_their_unit():
    prototypes = np.array([[0.0, 0], [0, 1], [9, 9], [9, 8], [0, 9]])
    labels = merge_prototypes(prototypes, [0, 1, 2, 3, 4, 2], k=3, random_state=1)
    assert labels[0] == labels[1]
    assert labels[2] == labels[3] == labels[5]
    assert len({labels[0], labels[2], labels[4]}) == 3
    with pytest.raises(ValueError, match="k=6 is more than the 5 prototypes"):
        merge_prototypes(prototypes, [0], k=6)
    with pytest.raises(ValueError, match="k=0"):
        merge_prototypes(prototypes, [0], k=0)


# ---------------------------------------------------------------- losses, written out


@pytest.mark.parametrize("name", ["dec", "idec"])
def test_dec_and_idec_losses_are_literally_the_papers(name):
    model = clone(MODELS[name])
    stack, x, rows = built(model)
    give_target(stack, 3)
    losses = stack.losses(x, stack.target_of(rows + 3))
    for s in range(2):
        z, m, decode = literal_parts(stack, x, s)
        p, kl = stack.target[s, 3:10].numpy(), 0.0
        for i in range(len(x)):
            q = literal_q(z[i], m)
            kl += sum(p[i, k] * np.log(p[i, k] / q[k]) for k in range(3)) / len(x)
        L = kl if name == "dec" else mse(x, [decode(z_i) for z_i in z]) + 0.1 * kl
        assert losses["clustering"][s].item() == pytest.approx(kl)
        assert losses["loss"][s].item() == pytest.approx(L)


def test_a_batch_of_each_seed_meets_its_own_targets():
    model = clone(MODELS["idec"])
    stack, _, _ = built(model)
    give_target(stack, 3)
    X, rows = tensor(40, 6), torch.tensor([[1, 2, 3], [7, 5, 30]])
    target = stack.target_of(rows)
    together = stack.losses(X[rows], target)["loss"]
    for s in range(2):
        assert target[s].equal(stack.target[s, rows[s]])
        assert stack.losses(X[rows[s]], stack.target_of(rows[s]))["loss"][s] == together[s]


def test_dcn_loss_and_centers_are_literally_the_papers():
    model = clone(MODELS["dcn"])
    stack, x, rows = built(model)
    before = [literal_parts(stack, x, s) for s in range(2)]
    losses = iterate(stack, x, rows)
    assert stack.centers.grad is None
    for s, (z, m, decode) in enumerate(before):
        km, c = 0.0, np.full(3, 100.0)
        chi = [min(range(3), key=lambda k: ((z_i - m[k]) ** 2).sum()) for z_i in z]
        for z_i, k in zip(z, chi, strict=True):
            km += ((z_i - m[k]) ** 2).sum() / len(z)
        for z_i, k in zip(z, chi, strict=True):
            c[k] += 1
            m[k] += (z_i - m[k]) / c[k]
        L = mse(x, [decode(z_i) for z_i in z]) + 0.1 * km
        assert losses["loss"][s].item() == pytest.approx(L)
        assert stack.centers[s].numpy() == pytest.approx(m)
        assert stack.counts[s].numpy() == pytest.approx(c)


def test_aec_loss_labels_and_centers_are_literally_the_slides():
    stack, _, _ = built(clone(MODELS["aec"]))
    X, rows = tensor(40, 6), torch.tensor([[1, 2, 3], [7, 5, 30]])
    with torch.no_grad():
        stack.labels, stack.changed = torch.zeros(2, 40).long(), torch.zeros(2).double()
        before = [literal_parts(stack, X, s) for s in range(2)]
        stack.prepare(X, 0)
        after = stack.centers.clone()
        stack.encoder.layers[-1].bias.add_(1.0)
        stack.prepare(X, 4)  # within the epoch of five batches
    losses = iterate(stack, X[rows], rows)
    assert stack.centers.grad is None
    assert stack.centers.equal(after)
    for s, (Z, m, _) in enumerate(before):
        chi = np.array([min(range(3), key=lambda k: ((z - m[k]) ** 2).sum()) for z in Z])
        for k in set(chi):
            m[k] = Z[chi == k].mean(0)
        assert stack.labels[s].tolist() == chi.tolist()
        assert after[s].numpy() == pytest.approx(m)
        assert losses["changed"][s].item() == pytest.approx((chi != 0).mean())
        z, _, decode = literal_parts(stack, X[rows[s]], s)
        km = sum(((z_i - m[chi[i]]) ** 2).sum() for z_i, i in zip(z, rows[s], strict=True)) / 3
        assert losses["kmeans"][s].item() == pytest.approx(km)
        L = mse(X[rows[s]], [decode(z_i) for z_i in z]) + 0.1 * km
        assert losses["loss"][s].item() == pytest.approx(L)
    with torch.no_grad():
        stack.prepare(X, 5)
    assert not stack.centers.equal(after)


def test_deep_kmeans_loss_is_literally_the_papers():
    model = clone(MODELS["dkm"])
    stack, x, _ = built(model)
    alpha = torch.tensor(1.7, dtype=torch.float64)
    losses = stack.losses(x, alpha)
    for s in range(2):
        z, m, decode = literal_parts(stack, x, s)
        km = 0.0
        for z_i in z:
            f = [sum((z_i[j] - m_k[j]) ** 2 for j in range(3)) for m_k in m]
            G = [np.exp(-1.7 * f_k) / sum(np.exp(-1.7 * f_l) for f_l in f) for f_k in f]
            km += sum(G[k] * f[k] for k in range(3)) / len(z)
        L = mse(x, [decode(z_i) for z_i in z]) + 0.1 * km
        assert losses["kmeans"][s].item() == pytest.approx(km)
        assert losses["loss"][s].item() == pytest.approx(L)


def test_deep_neural_maps_move_the_centers_by_kohonen_and_the_network_by_idec():
    model = clone(MODELS["dnm"])
    stack, x, rows = built(model)
    give_target(stack, 6)
    before = [literal_parts(stack, x, s) for s in range(2)]
    T, alpha, grid = 1.5, 0.3, Grid(2, 3)
    values = {"temperature": torch.tensor(T), "alpha": torch.tensor(alpha, dtype=torch.float64)}
    losses = iterate(stack, x, rows, **values)
    assert stack.centers.grad is None
    for s, (z, m, decode) in enumerate(before):
        chi = [min(range(6), key=lambda k: ((z_i - m[k]) ** 2).sum()) for z_i in z]
        for z_i, c in zip(z, chi, strict=True):
            for k in range(6):
                delta = abs(grid.coords[c] - grid.coords[k]).sum()
                m[k] += alpha * np.exp(-(delta**2) / T**2) * (z_i - m[k])
        assert stack.centers[s].numpy() == pytest.approx(m, rel=1e-12, abs=1e-14)
        kl, p = 0.0, stack.target[s].numpy()
        for i in range(len(x)):
            q = literal_q(z[i], m)
            kl += sum(p[i, k] * np.log(p[i, k] / q[k]) for k in range(6)) / len(x)
        L = mse(x, [decode(z_i) for z_i in z]) + 0.01 * kl
        assert losses["loss"][s].item() == pytest.approx(L, rel=1e-12)


@pytest.mark.parametrize("grid", [Grid(2, 3), Grid(3, 3, "hex"), Grid(3, 3, wrap=True)])
def test_somvae_loss_is_literally_the_released_codes(grid):
    model = SOMVAE(grid, alpha=0.7, beta=0.4, **SMALL)
    stack, x, _ = built(model)
    losses = stack.losses(x)
    for s in range(2):
        z, e, decode = literal_parts(stack, x, s)
        commit, som, decoded = 0.0, 0.0, []
        for z_i in z:
            c = min(range(len(e)), key=lambda k: ((z_i - e[k]) ** 2).sum())
            decoded.append(decode(e[c]))
            commit += ((z_i - e[c]) ** 2).mean() / len(z)
            near = [k for k in range(len(e)) if k == c or grid.distances[k, c] < 1.01]
            places = 7 if grid.topology == "hex" else 5
            som += sum(((e[k] - z_i) ** 2).mean() for k in near) / places / len(z)
        L_q, L_e = mse(x, decoded), mse(x, [decode(z_i) for z_i in z])
        assert losses["som"][s].item() == pytest.approx(som)
        assert losses["loss"][s].item() == pytest.approx(L_q + L_e + 0.7 * commit + 0.4 * som)


def test_somvaes_convolutions_are_those_of_the_released_code():
    model = SOMVAE((2, 3), hidden=(4, 5), latent_dim=3, architecture="conv", batch_size=8)
    network = model._build(64, torch.Generator().manual_seed(0)).double()
    convolve, image = torch.nn.functional.conv2d, tensor(7, 1, 8, 8)
    (down, code), (first, up) = network.encoder, network.decoder
    h = image
    for W, b, side in zip(down.weights, down.biases, (8, 4), strict=True):
        h = convolve(h, W, b, padding=3)[..., 2:-1, 2:-1]  # 1 before, 2 after
        assert h.shape[-1] == side
        h = torch.nn.functional.max_pool2d(h.relu(), 2)
    z = h.flatten(1) @ code.layers[0].weight + code.layers[0].bias
    assert torch.allclose(network.encode(image.flatten(1)), z)
    h = (z @ first.layers[0].weight + first.layers[0].bias).reshape(7, 5, 2, 2)
    for n, (W, b) in enumerate(zip(up.weights, up.biases, strict=True)):
        h = h.repeat_interleave(2, -1).repeat_interleave(2, -2)
        h = convolve(h, W, b, padding=3)[..., 2:-1, 2:-1]
        h = h.sigmoid() if n else h.relu()
    assert torch.allclose(network.decode(z), h.flatten(1))


@pytest.mark.parametrize(("name", "least"), [("somvae", 0.0), ("vade", 0.1)])
def test_the_learning_rate_decays_in_steps(name, least):
    model = clone(MODELS[name]).set_params(rate_decay=0.1, rate_interval=5, learning_rate=0.01)
    model.set_params(random_state=0).fit(X)
    rate = 0.01 * np.maximum(0.1 ** np.repeat([0, 1, 2], [5, 5, 2]), least)
    assert model.history_["learning_rate"] == pytest.approx(rate)


def test_steps_are_as_long_as_the_scheduled_learning_rate():
    """Until the rate falls nothing differs; then Adam's step is multiplied by the same factor."""
    after = {}
    for n_iter, decay in ((5, 1.0), (6, 1.0), (6, 0.25)):
        model = SOMVAE((2, 3), rate_decay=decay, rate_interval=5, random_state=0)
        model.set_params(**SMALL | {"n_iter": n_iter})
        after[n_iter, decay] = model.fit(X).parameters_
    for name, before in after[5, 1.0].items():
        whole = after[6, 1.0][name] - before
        assert after[6, 0.25][name] - before == pytest.approx(0.25 * whole, abs=1e-12)


def test_vades_bound_agrees_with_monte_carlo():
    model = clone(MODELS["vade"])
    network, x, _ = built(model, S=1, B=4)
    epsilon = torch.from_numpy(rng.standard_normal((4, 3)))
    losses = network.losses(x, epsilon)
    normal, sampled = torch.distributions.Normal, torch.Generator().manual_seed(0)
    with torch.no_grad():
        mean = network.encode(x)
        hidden = network.encoder.layers[0](x).relu()
        std = (network.log_variance(hidden) / 2).exp()
        z = mean + std * epsilon
        prior = normal(network.centers, (network.log_v / 2).exp())
        log_pi = network.log_pi.log_softmax(-1)

        def log_joint(z):  # log p(z, c)
            return prior.log_prob(z[..., None, :]).sum(-1) + log_pi

        log_gamma = log_joint(z).log_softmax(-1)  # p(c|z) by Bayes' rule
        many = mean + std * torch.randn(100_000, 4, 3, generator=sampled).double()
        log_q = normal(mean, std).log_prob(many).sum(-1)
        divergence = (log_gamma.exp() * (log_gamma - log_joint(many))).sum(-1) + log_q
        pixels = torch.distributions.Bernoulli(network.decode(z), validate_args=False)
        reconstruction = -pixels.log_prob(x).sum(-1).mean()
    assert losses["reconstruction"].item() == pytest.approx(reconstruction.item())
    assert losses["divergence"].item() == pytest.approx(divergence.mean().item(), abs=0.01)
    assert losses["loss"].item() == pytest.approx(
        losses["reconstruction"].item() + losses["divergence"].item()
    )


def test_vade_takes_no_less_than_the_evidence():
    """Minus the bound is at least −log p(x), here for one latent dimension by quadrature."""
    model = VaDE(3, hidden=(5,), latent_dim=1, batch_size=8)
    network, x, _ = built(model, S=1, B=1)
    z = torch.linspace(-12, 12, 4001)[:, None].double()
    noise, losses = torch.linspace(-4, 4, 801).double(), []
    with torch.no_grad():
        log_p_z = expected_log_density(z, torch.zeros_like(z), network.centers, network.log_v)
        log_p_z = (log_p_z + network.log_pi.log_softmax(-1)).logsumexp(-1) - np.log(2 * np.pi) / 2
        pixels = torch.distributions.Bernoulli(network.decode(z), validate_args=False)
        log_p_xz = pixels.log_prob(x).sum(-1) + log_p_z
        evidence = np.log(np.trapezoid(log_p_xz.exp(), z[:, 0]))
        for e in noise:
            losses.append(network.losses(x, e.reshape(1, 1))["loss"].item())
    weights = np.exp(-(noise.numpy() ** 2) / 2)
    assert np.average(losses, weights=weights) >= -evidence


def test_vade_starts_from_the_reconstructions_and_the_mixture_of_the_codes():
    start = Autoencoder(hidden=(5,), latent_dim=3, n_epochs=2, batch_size=8, random_state=0).fit(X)
    vade = clone(MODELS["vade"]).set_params(n_iter=1, learning_rate=1e-12, random_state=0)
    Z = vade.fit(X, start=start).transform(X)
    assert pytest.approx(start.transform(X)) == Z
    y = start.inverse_transform(Z)
    assert vade.inverse_transform(Z) == pytest.approx(1 / (1 + np.exp(2 - 4 * y)))
    mixture = GaussianMixture(3, covariance_type="diag", random_state=0).fit(Z)
    assert vade.centers_ == pytest.approx(mixture.means_)
    assert vade.parameters_["log_v"] == pytest.approx(np.log(mixture.covariances_))
    assert (vade.labels_ == mixture.predict(Z)).all()


def test_vade_has_different_noise_in_each_iteration_and_seed():
    network, x, _ = built(clone(MODELS["vade"]))
    noise, drawn = NoiseSource(network.noise(8), [0, 1], x), []
    for i in (0, 1, 64):
        drawn += list(noise(i)["epsilon"])
    assert all(not a.equal(b) for n, a in enumerate(drawn) for b in drawn[:n])
    assert noise(1)["epsilon"][0].equal(drawn[2])


# ---------------------------------------------------------------- gradients


def gradient(loss, thing):
    (found,) = torch.autograd.grad(loss.sum(), [thing], retain_graph=True, allow_unused=True)
    return found


def test_dec_leaves_the_decoder_as_it_was():
    start = Autoencoder(hidden=(5,), latent_dim=3, n_epochs=2, batch_size=8, random_state=0).fit(X)
    dec = clone(MODELS["dec"]).set_params(random_state=0).fit(X, start=start)
    for name, before in start.parameters_.items():
        assert (dec.parameters_[name] == before).all() == name.startswith("decoder")


def test_idec_without_clustering_is_the_autoencoder():
    start = Autoencoder(hidden=(5,), latent_dim=3, n_epochs=2, batch_size=8, random_state=0).fit(X)
    same = {"hidden": (5,), "latent_dim": 3, "batch_size": 8, "n_iter": 12, "shuffle": False}
    ae = Autoencoder(random_state=0, **same).fit(X, start=start)
    idec = IDEC(3, gamma=0.0, random_state=0, **same).fit(X, start=start)
    for name, expected in ae.parameters_.items():
        assert idec.parameters_[name] == pytest.approx(expected, abs=1e-12)


def test_what_is_pretrained_here_is_what_start_would_give():
    start = Autoencoder(hidden=(5,), latent_dim=3, n_epochs=2, batch_size=8, random_state=4).fit(X)
    given = clone(MODELS["idec"]).set_params(random_state=4).fit(X, start=start)
    own = clone(MODELS["idec"]).set_params(random_state=4).fit(X)
    assert (given.centers_ == own.centers_).all()


@pytest.mark.parametrize("copied", [False, True])
def test_the_gradient_of_somvaes_quantized_reconstruction_reaches_the_right_parameters(copied):
    model = SOMVAE((2, 3), straight_through=copied, **SMALL)
    stack, x, _ = built(model)
    z_e = stack.encode(x)
    stack.encode = lambda _: z_e
    losses = stack.losses(x)
    reaches = [gradient(losses["reconstruction_q"], thing) for thing in (z_e, stack.centers)]
    assert [g is not None for g in reaches] == [copied, not copied]
    assert gradient(losses["reconstruction_e"], z_e).any()
    assert gradient(losses["reconstruction_e"], stack.centers) is None
    assert gradient(losses["commitment"], z_e).any()
    assert gradient(losses["commitment"], stack.centers).any()
    assert gradient(losses["som"], z_e) is None
    assert gradient(losses["som"], stack.centers).any()
    if copied:  # what reaches z_e is the decoder's gradient at z_q
        chi = torch.cdist(z_e, stack.centers).argmin(-1)
        z_q = torch.take_along_dim(stack.centers, chi[..., None], 1).detach().requires_grad_()
        L_q = ((stack.decode(z_q) - x) ** 2).mean((1, 2))
        assert torch.allclose(reaches[0], gradient(L_q, z_q))


def test_idecs_decoder_learns_from_the_reconstruction_alone():
    model = clone(MODELS["idec"])
    stack, x, rows = built(model)
    give_target(stack, 3)
    losses = stack.losses(x, stack.target_of(rows))
    last = stack.decoder.layers[-1].weight
    assert gradient(losses["clustering"], last) is None
    assert gradient(losses["reconstruction"], last).any()
    assert gradient(losses["reconstruction"], stack.centers) is None
    assert gradient(losses["clustering"], stack.centers).any()


def test_deep_kmeans_gradient_is_that_of_differences_also_through_the_softmax():
    z, m = tensor(5, 3).requires_grad_(), tensor(4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda z, m: relaxed_kmeans(z, m, 2.5), (z, m))
    d2 = torch.cdist(z, m).square()
    fixed = (torch.softmax(-2.5 * d2, -1).detach() * d2).sum(-1).mean(-1)
    assert not torch.allclose(gradient(fixed, m), gradient(relaxed_kmeans(z, m, 2.5), m))


@pytest.mark.parametrize(("name", "reached"), [("aec", False), ("dkm", True)])
def test_the_kmeans_loss_reaches_the_encoder_and_where_it_is_relaxed_the_centers(name, reached):
    stack, x, rows = built(clone(MODELS[name]))
    if name == "aec":
        stack.labels, stack.changed = torch.zeros(2, 40).long(), torch.zeros(2).double()
        (losses, _) = next(stack.updates(x, rows))
    else:
        losses = stack.losses(x, torch.tensor(1.0))
    assert gradient(losses["kmeans"], stack.encoder.layers[0].weight).any()
    assert gradient(losses["kmeans"], stack.decoder.layers[-1].weight) is None
    assert stack.centers.requires_grad == reached
    if reached:
        assert gradient(losses["kmeans"], stack.centers).any()


# ---------------------------------------------------------------- training


@ALL
def test_the_result_of_a_seed_is_independent_of_the_ensemble(model):
    alone, *_ = fit_seeds(model, X, [5])
    _, among, _ = fit_seeds(model, X, [3, 5, 8])
    for name, value in alone.parameters_.items():
        assert among.parameters_[name] == pytest.approx(value, abs=1e-9), name
    for name, value in alone.history_.items():
        assert among.history_[name] == pytest.approx(value, abs=1e-9), name
    assert (among.labels_ == alone.labels_).all()


@ALL
def test_an_interrupted_training_resumes_bit_for_bit(model, tmp_path):
    model = clone(model).set_params(n_iter=70, random_state=2)
    if hasattr(model, "update_interval"):
        model.set_params(update_interval=30)  # the interrupt comes between two targets

    def interrupt(i, logs):
        raise KeyboardInterrupt

    whole = clone(model).fit(X)
    broken = clone(model)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(X, callbacks=[interrupt], checkpoint=tmp_path / "file.npz")
    assert broken.n_iter_ == 50
    assert broken.predict(X).shape == (40,)
    resumed = clone(model).fit(X, checkpoint=tmp_path / "file.npz")
    assert resumed.n_iter_ == 70
    for name, value in whole.parameters_.items():
        assert (resumed.parameters_[name] == value).all(), name
    for name, value in whole.history_.items():
        assert (resumed.history_[name] == value).all(), name


@pytest.mark.parametrize("name", ["idec", "dnm", "dcn", "aec", "dkm"])
def test_an_interrupted_ensemble_keeps_each_seeds_targets_labels_and_counts(name, tmp_path):
    model = clone(MODELS[name]).set_params(n_iter=70)
    if hasattr(model, "update_interval"):
        model.set_params(update_interval=30)

    def interrupt(i, logs):
        raise KeyboardInterrupt

    whole = fit_seeds(model, X, [3, 5])
    with pytest.raises(KeyboardInterrupt):
        fit_seeds(model, X, [3, 5], callbacks=[interrupt], checkpoint=tmp_path / "file.npz")
    resumed = fit_seeds(model, X, [3, 5], checkpoint=tmp_path / "file.npz")
    for one, other in zip(whole, resumed, strict=True):
        assert one.parameters_.keys() == other.parameters_.keys()
        for key, value in (one.parameters_ | one.history_).items():
            assert ((other.parameters_ | other.history_)[key] == value).all(), key


@ALL
def test_a_fitted_model_can_be_used_and_saved(model, tmp_path):
    model = clone(model).set_params(random_state=1).fit(X.astype(np.float32))
    assert (model.predict(X) == model.labels_).all()
    model.save(tmp_path / "model.npz")
    again = somlib.load(tmp_path / "model.npz")
    assert (again.predict(X) == model.labels_).all()
    assert (again.transform(X) == model.transform(X)).all()
    assert again.get_params() == model.get_params()
    assert set(model.parameters_) >= {"centers"}
    assert not set(model.parameters_) & {"target", "labels", "changed", "noise"}
    assert model.transform(X).dtype == np.float32
    assert model.transform(X).shape == (40, 6 if isinstance(model, Kerasom) else 3)
    assert len(model.get_feature_names_out()) == model.transform(X).shape[1]
    fast = clone(model).set_params(precision="medium").fit(X.astype(np.float32))
    assert fast.history_["loss"] == pytest.approx(model.history_["loss"], rel=0.1)


@pytest.mark.parametrize("name", ["dnm", "somvae"])
def test_maps_of_codes_have_prototypes_as_desom_has(name):
    model = clone(MODELS[name]).set_params(random_state=1).fit(X)
    assert model.grid_ == Grid(2, 3)
    assert model.prototypes_.shape == (6, 3)
    assert model.decoded_prototypes_.shape == (6, 6)


def test_kerasom_is_the_map_by_sgd_where_their_definitions_meet():
    """On a row of units Manhattan is Euclidean, and exp(−δ²/T²) = exp(−δ²/2σ²) for T = √2 σ."""
    kerasom = Kerasom((1, 7), (3.0, 0.5), n_iter=33, batch_size=16, random_state=3).fit(X)
    drawn = torch.randperm(40, generator=torch.Generator().manual_seed(3))[:7].numpy()
    som = SOM(
        (1, 7),
        mode="sgd",
        sigma=(3.0 / 2**0.5, 0.5 / 2**0.5),
        init=X[drawn],
        shuffle=False,
        batch_size=16,
        n_iter=33,
    ).fit(X)
    assert kerasom.weights_ == pytest.approx(som.weights_, abs=1e-9)
    assert (kerasom.predict(X) == som.predict(X)).all()
    assert kerasom.transform(X) == pytest.approx(som.transform(X))
    assert not (kerasom.weights_ == X[drawn]).any()


def test_kerasom_names_the_lowest_unit_of_equals_and_has_no_decoder():
    kerasom = Kerasom((1, 3), n_iter=1, batch_size=4, random_state=0).fit(X)
    kerasom.parameters_["centers"][:] = X[7]
    assert (kerasom.predict(X) == 0).all()
    assert not hasattr(kerasom, "inverse_transform")
    assert not hasattr(kerasom, "decoded_prototypes_")


def test_history_holds_the_fraction_of_changed_labels():
    seen = {}

    def note(i, logs):
        seen[i] = dec.predict(X)

    dec = clone(MODELS["dec"]).set_params(
        n_iter=150, update_interval=50, random_state=0, learning_rate=0.05
    )
    dec.fit(X, callbacks=[note])
    changed = dec.history_["changed"]
    assert changed[0] == 0  # k-means' labels are those of the nearest centers
    assert changed[100] == (seen[99] != seen[49]).mean() > 0
    assert (changed[50:100] == changed[50]).all()
    changed = dec.set_params(update_interval=20).fit(X).history_["changed"]
    assert (changed[:20] == 0).all()
    assert (changed[40:60] == changed[40]).all()
    assert changed[40] > 0


def test_initial_centers_are_those_of_kmeans_on_the_codes():
    start = Autoencoder(hidden=(5,), latent_dim=3, n_epochs=2, batch_size=8, random_state=0).fit(X)
    model = clone(MODELS["idec"]).set_params(n_iter=1, learning_rate=1e-12, random_state=0)
    model.fit(X, start=start)
    inertia = ((model.transform(X) - model.centers_[model.labels_]) ** 2).sum()
    best = KMeans(3, n_init=50, random_state=0).fit(start.transform(X)).inertia_
    assert 0.999 * best < inertia < 1.02 * best  # local optima differ by more or by nothing


# ---------------------------------------------------------------- what they are good for


@pytest.fixture(scope="module")
def digits():
    ds = data.load("digits")
    size = {"hidden": (32,), "latent_dim": 6, "batch_size": 128}
    ae = Autoencoder(n_epochs=40, random_state=0, **size).fit(ds.X)
    return ds, ae, size


def test_clusters_of_codes_get_better(digits):
    ds, ae, size = digits

    def nmi(labels):
        return metrics.nmi(ds.y, labels, average="geometric")

    plain = nmi(KMeans(10, n_init=20, random_state=0).fit_predict(ae.transform(ds.X)))
    more = {"n_iter": 400, "random_state": 0} | size
    for model in (
        DEC(update_interval=20, **more),
        IDEC(update_interval=20, **more),
        DCN(gamma=0.01, **more),
        AEC(gamma=0.01, **more),
        DeepKMeans(gamma=0.01, **more),
        VaDE(**more),
    ):
        model.fit(ds.X, start=ae)
        assert nmi(model.labels_) > plain + 0.02, model
    assert model.history_["loss"][-20:].mean() < model.history_["loss"][:20].mean() - 2


def test_idec_keeps_the_reconstructions_and_dec_does_not(digits):
    ds, ae, size = digits
    more = {"n_iter": 400, "random_state": 0, "update_interval": 20} | size

    def error(model):
        return ((model.inverse_transform(model.transform(ds.X)) - ds.X) ** 2).mean()

    dec, idec = (m.fit(ds.X, start=ae) for m in (DEC(**more), IDEC(**more)))
    assert error(idec) < 1.2 * error(ae) < error(dec)


def test_maps_of_codes_unfold(digits):
    ds, ae, size = digits
    grid, more = Grid(5, 5), {"random_state": 0, "n_iter": 500} | size
    codes = ae.transform(ds.X)
    kerasom = Kerasom(grid, n_iter=500, learning_rate=0.03, batch_size=128, random_state=0)
    maps = [
        (DeepNeuralMaps(grid, update_interval=20, **more).fit(ds.X, start=ae), "prototypes_"),
        (SOMVAE(grid, learning_rate=3e-3, **more).fit(ds.X), "prototypes_"),
        (kerasom.fit(codes), "weights_"),
    ]
    for model, name in maps:
        Z = codes if model is kerasom else model.transform(ds.X)
        prototypes = getattr(model, name)
        torn = metrics.topographic_error(Z, prototypes, grid)
        mixed = metrics.topographic_error(Z, rng.permutation(prototypes), grid)
        assert torn < 0.7 * mixed, model
        assert metrics.purity(ds.y, model.labels_) > 0.7, model


# ---------------------------------------------------------------- MiniSom


def test_minisom_map_is_minisom():
    som = MiniSomMap((3, 4), n_iter=200, sigma=1.5, learning_rate=0.3, random_state=5).fit(X)
    peer = MiniSom(3, 4, 6, sigma=1.5, learning_rate=0.3, random_seed=5)
    peer.random_weights_init(X)
    peer.train(X, 200)
    assert som.weights_.reshape(3, 4, 6) == pytest.approx(peer.get_weights())
    assert [divmod(unit, 4) for unit in som.predict(X)] == [peer.winner(x) for x in X]
    assert som.transform(X) == pytest.approx(peer._distance_from_weights(X))
    assert (som.labels_ == som.predict(X)).all()


def test_minisom_map_passes_its_settings_on(tmp_path):
    plain = MiniSomMap((3, 4), n_iter=100, random_state=0)
    fitted = {(): plain.fit(X).weights_}
    for setting in (
        {"init": "pca"},
        {"init": "random"},
        {"neighborhood": "mexican_hat"},
        {"decay": "linear_decay_to_zero"},
        {"sigma": 2.0, "sigma_decay": "linear_decay_to_one"},
        {"random_order": True},
    ):
        fitted[tuple(setting)] = clone(plain).set_params(**setting).fit(X).weights_
    assert len({w.tobytes() for w in fitted.values()}) == len(fitted)
    plain.save(tmp_path / "som.npz")
    assert (somlib.load(tmp_path / "som.npz").predict(X) == plain.labels_).all()


def test_minisom_map_says_what_is_missing_or_wrong(monkeypatch):
    with pytest.raises(ValueError, match="init='best' is unknown; choose one of"):
        MiniSomMap(init="best").fit(X)
    with pytest.raises(ValueError, match="needs a rectangular map without wrapping"):
        MiniSomMap(Grid(3, 4, "hex")).fit(X)
    with pytest.raises(ValueError, match="n_iter=0"):
        MiniSomMap(n_iter=0).fit(X)
    with pytest.raises(ValueError, match=r"grid=\(0, 3\)"):
        MiniSomMap((0, 3)).fit(X)
    with pytest.raises(TypeError, match="cannot be trained as an ensemble"):
        fit_seeds(MiniSomMap(), X, [0])
    monkeypatch.setitem(sys.modules, "minisom", None)
    with pytest.raises(ImportError, match="pip install minisom"):
        MiniSomMap().fit(X)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("dec", {"n_clusters": 41}, "41 centers for a data set of 40 samples.*smaller n_clusters"),
        ("dec", {"n_clusters": 0}, "n_clusters=0 must be a whole number"),
        ("dec", {"update_interval": 0}, "update_interval=0"),
        ("dec", {"pretrain_epochs": -1}, "pretrain_epochs=-1"),
        ("idec", {"gamma": -0.1}, "gamma=-0.1 must be a finite number of at least 0"),
        ("dcn", {"gamma": float("nan")}, "gamma=nan"),
        ("aec", {"gamma": -1}, "gamma=-1"),
        ("aec", {"n_clusters": 41}, "41 centers for a data set of 40 samples.*smaller n_clusters"),
        ("dkm", {"gamma": "much"}, "gamma='much'"),
        ("dkm", {"alpha": 0.0}, "alpha=0.0 must be a positive number"),
        ("dkm", {"n_alphas": 0}, "n_alphas=0 must be a whole number"),
        ("dkm", {"n_clusters": 41}, "41 centers for a data set of 40 samples.*smaller n_clusters"),
        ("dcn", {"batch_size": 41}, "batch_size=41 is larger"),
        ("vade", {"latent_dim": 7}, "latent_dim=7 is more than the 6 features"),
        ("somvae", {"alpha": -1}, "alpha=-1"),
        ("somvae", {"beta": float("inf")}, "beta=inf"),
        ("somvae", {"grid": (7, 7)}, "49 centers for a data set of 40 samples.*smaller grid"),
        ("somvae", {"rate_decay": 1.1}, "rate_decay=1.1 must be a number from 0 to 1"),
        ("vade", {"rate_interval": 0}, "rate_interval=0 must be a whole number"),
        ("somvae conv", {"pretrain_epochs": 2}, "pretrain_epochs=2: only dense layers"),
        ("somvae conv", {"image_shape": (2, 2)}, "image_shape=\\(2, 2\\) does not fit 6 features"),
        ("somvae conv", {"hidden": ()}, "hidden=\\(\\) has no layer"),
        ("somvae conv", {"architecture": "cnn"}, "architecture='cnn' is unknown"),
        ("somvae", {"grid": 8}, "grid=8: .*give \\(rows, cols\\) or a Grid"),
        ("dnm", {"gamma": -1}, "gamma=-1"),
        ("dnm", {"alpha": (2.0, 0.1)}, "alpha=\\(2.0, 0.1\\) must start at 1 or below"),
        ("dnm", {"alpha": 0.5}, "alpha=0.5"),
        ("dnm", {"temperature": (1.0, 2.0)}, "temperature=.*must decrease"),
        ("kerasom", {"temperature": (1.0, 2.0)}, "temperature=.*must decrease"),
        ("kerasom", {"temperature": 3.0}, "temperature=3.0"),
        ("kerasom", {"neighborhood": "mexican"}, "neighborhood='mexican' is unknown"),
        ("kerasom", {"grid_distance": "taxi"}, "grid_distance='taxi' is unknown"),
        ("kerasom", {"decay": "slow"}, "decay='slow' is unknown"),
        ("kerasom", {"grid": (7, 7)}, "49 centers for a data set of 40 samples.*smaller grid"),
    ],
)
def test_bad_parameters_are_named(name, change, message):
    model = clone(MODELS[name]).set_params(**change)
    with pytest.raises(ValueError, match=message):
        model.fit(X)
    assert not hasattr(model, "parameters_")


def test_vade_raises_an_error_for_values_outside_0_and_1():
    with pytest.raises(ValueError, match=r"within \[-3, .*takes data in \[0, 1\]"):
        VaDE(3, pretrain_epochs=10**9, batch_size=8).fit(np.where(X < 0.5, -3, X))


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_start_of_another_shape_is_refused(name):
    start = Autoencoder(hidden=(4,), latent_dim=3, n_epochs=1, batch_size=8).fit(X)
    with pytest.raises(ValueError, match="start does not fit"):
        clone(MODELS[name]).fit(X, start=start)
