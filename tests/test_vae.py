"""The VAE against closed forms: a linear one, invertible couplings, a rotation, capacities by hand."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from chain import refused
from pictures import refusal
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from animegen_cli.model.families.vae import VAE, Model, VAESampling
from animegen_cli.model.family import Batch, DataSpec, Edit
from animegen_cli.model.nets import vae as nets
from animegen_cli.model.noise import Noise

SPEC = DataSpec(16, 100)
SMALL: dict[str, Any] = {"widths": (8, 16), "latent": 4}


def small(size: int = 16, **settings: Any) -> VAE:
    torch.manual_seed(0)
    return VAE(Model(**(SMALL | settings)), DataSpec(size, 100))


def images(count: int = 4, size: int = 16) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(5)) * 2 - 1


# ---- the bound --------------------------------------------------------------------------------------------------


class LinearEncoder(nn.Module):
    """q(z | x) = N(M^-1 W' (x - mu), s^2 M^-1) with diagonal M = W'W + s^2 I: the exact posterior of PPCA."""

    def __init__(self, weight: Tensor, mu: Tensor, variance: float) -> None:
        super().__init__()
        self.mu, moment = mu, weight.T @ weight + variance * torch.eye(weight.shape[1], dtype=weight.dtype)
        self.back = torch.linalg.inv(moment) @ weight.T
        self.log_std = 0.5 * torch.log(variance / moment.diagonal())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = (x.flatten(1) - self.mu) @ self.back.T
        return mean, self.log_std.expand_as(mean)


class LinearDecoder(nn.Module):
    def __init__(self, weight: Tensor, mu: Tensor) -> None:
        super().__init__()
        self.weight, self.mu = weight, mu

    def forward(self, z: Tensor) -> Tensor:
        return (z @ self.weight.T + self.mu).view(len(z), 3, 4, 4)


class Single(nn.Module):
    """Linear decoder with the deviation and the N(0, I) prior that the family expects of its own."""

    diffusion = None

    def __init__(self, net: nn.Module, variance: float) -> None:
        super().__init__()
        self.net, self.log_std = net, torch.full((1, 1), 0.5 * math.log(variance), dtype=torch.float64)

    def forward(self, z: Tensor, *, from_noise: bool = False) -> tuple[Tensor, None, Tensor]:
        return self.net(z), None, self.log_std


def linear(data: Tensor, latent: int) -> tuple[VAE, MultivariateNormal]:
    """The maximum-likelihood linear VAE of `data` (Tipping & Bishop 1999, eq. 7-8), and its exact distribution."""
    flat = data.flatten(1)
    mu = flat.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(flat.T, correction=0))
    values, vectors = values.flip(0), vectors.flip(1)
    variance = float(values[latent:].mean())
    weight = vectors[:, :latent] * (values[:latent] - variance).sqrt()
    model = VAE(Model(widths=(4,), latent=latent), DataSpec(4, len(data)))
    model.encoder = LinearEncoder(weight, mu, variance)
    model.decoder = Single(LinearDecoder(weight, mu), variance)  # type: ignore[assignment]  # in place of the family's own
    covariance = weight @ weight.T + variance * torch.eye(len(weight), dtype=torch.float64)
    return model, MultivariateNormal(mu, covariance)


@pytest.fixture(scope="module")
def correlated() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(6, 48, generator=generator, dtype=torch.float64) * 0.2
    codes = torch.randn(200, 6, generator=generator, dtype=torch.float64)
    spread = torch.randn(200, 48, generator=generator, dtype=torch.float64) * 0.05
    return (codes @ mixing + spread).view(200, 3, 4, 4)


def test_a_linear_vaes_bound_is_its_exact_likelihood(correlated: Tensor) -> None:
    """Probabilistic PCA: with the exact posterior the bound is tight (Tipping & Bishop 1999; Lucas et al. 2019).

    The distortion is quadratic in eps, so its mean over N(0, I) is that over the 2 L points +-sqrt(L) e_i.
    """
    model, exact = linear(correlated, 4)
    points = 2.0 * torch.cat([torch.eye(4), -torch.eye(4)]).double()
    found = [model.measure(correlated, point.expand(200, 4)) for point in points]
    bound = torch.stack([part.distortion for part in found]).mean(0) + found[0].rate.sum(1)
    torch.testing.assert_close(bound, -exact.log_prob(correlated.flatten(1)), rtol=0, atol=1e-6)


def test_a_worse_posterior_loosens_the_bound_by_its_divergence(correlated: Tensor) -> None:
    model, exact = linear(correlated, 4)
    assert isinstance(model.encoder, LinearEncoder)
    model.encoder.log_std = model.encoder.log_std + 0.3
    points = 2.0 * torch.cat([torch.eye(4), -torch.eye(4)]).double()
    found = [model.measure(correlated, point.expand(200, 4)) for point in points]
    bound = torch.stack([part.distortion for part in found]).mean(0) + found[0].rate.sum(1)
    gap = bound + exact.log_prob(correlated.flatten(1))
    divergence = 4 * (0.5 * math.exp(0.6) - 0.5 - 0.3)  # KL(N(m, e^0.6 s^2) || N(m, s^2)), four times
    torch.testing.assert_close(gap, torch.full_like(gap, divergence), rtol=0, atol=1e-6)


def test_bits_per_dim_of_the_linear_vae(correlated: Tensor) -> None:
    """(-ln p + D ln 127.5) / (D ln 2), up to the dequantization, which the noise of 0.05 hides."""
    model, exact = linear(correlated, 4)
    wanted = (-exact.log_prob(correlated.flatten(1)).mean() / 48 + math.log(127.5)) / math.log(2)
    found = torch.stack([model.bits_per_dim(correlated, Noise(range(i, i + 200))) for i in range(0, 8000, 400)])
    assert found.shape == (20, 200)
    assert found.mean().item() == pytest.approx(float(wanted), abs=0.02)


@pytest.mark.parametrize(("pixels", "factor"), [("symmetric", 1.0), ("unit", 0.5)])
def test_the_documents_weighting_is_the_bound_with_a_wide_gaussian(pixels: str, factor: float) -> None:
    """mean MSE + w KL = (bound - constant) * 2 s^2 / D with s^2 = w D / 2."""
    model, x = small(likelihood="scaled", kl_weight=0.01, pixels=pixels), images()
    variance = 0.01 * 768 / 2 / factor**2
    for seed in (1, 2):
        torch.manual_seed(seed)
        losses = model.loss(Batch(x))
        constant = 384 * math.log(2 * math.pi * variance)
        wanted = (-losses["elbo"] - constant) * 2 * 0.01 / 2
        assert losses["loss"].item() == pytest.approx(float(wanted), rel=1e-4)
        assert losses["loss"].item() == pytest.approx(float(losses["mse"] * factor**2 + 0.01 * losses["kl"]), rel=1e-5)


# ---- weights of the KL --------------------------------------------------------------------------------------------


def excess(model: VAE, images_seen: int) -> tuple[float, float]:
    """What the objective adds to the distortion, and the KL, both in nats."""
    torch.manual_seed(3)
    losses = model.loss(Batch(images(), images_seen=images_seen))
    torch.manual_seed(3)
    found = model.measure(images(), torch.randn(4, 4))
    kl = found.rate.sum(1).mean().item()
    assert float(losses["kl"]) == pytest.approx(kl, rel=1e-5)
    return (losses["loss"] * 768 - found.distortion.mean()).item(), kl


@pytest.mark.parametrize(
    ("settings", "seen", "wanted"),
    [
        ({}, 0, lambda kl: kl),
        ({"beta": 4.0}, 0, lambda kl: 4 * kl),
        ({"beta": 4.0, "warmup": "1k images"}, 250, lambda kl: kl),
        ({"beta": 4.0, "warmup": "2 epochs"}, 100, lambda kl: 2 * kl),
        ({"warmup": "1k images"}, 5000, lambda kl: kl),
        ({"capacity": 25.0, "capacity_over": "1k images"}, 500, lambda kl: 10 * abs(kl - 12.5)),
        ({"capacity": 25.0, "capacity_over": "1k images", "capacity_weight": 3.0}, 2000, lambda kl: 3 * abs(kl - 25)),
        ({"free_bits": 50.0}, 0, lambda kl: 200.0),
    ],
)
def test_what_the_kl_costs(settings: dict[str, Any], seen: int, wanted: Any) -> None:
    found, kl = excess(small(**settings), seen)
    assert found == pytest.approx(wanted(kl), rel=1e-3, abs=2e-3)


def test_free_bits_leave_the_logged_kl_true() -> None:
    plain, free = small(), small(free_bits=50.0)
    assert excess(plain, 0)[1] == pytest.approx(excess(free, 0)[1])


# ---- networks -----------------------------------------------------------------------------------------------------


def test_the_documents_network_has_its_parameters_and_shapes() -> None:
    with torch.device("meta"):
        model = VAE(Model(likelihood="scaled", pixels="unit"), DataSpec(64, 100))
        assert sum(p.numel() for p in model.parameters()) == 3_937_635
        x = torch.empty(2, 3, 64, 64)
        shapes = []
        assert isinstance(model.encoder, nets.PlainEncoder)
        for stage in model.encoder.stages:
            x = stage(x)
            shapes.append(tuple(x.shape[1:]))
    assert shapes == [(32, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]


@pytest.mark.parametrize("network", ["plain", "residual"])
@pytest.mark.parametrize("size", [16, 18, 40, 72, 256])
def test_any_size_comes_back(network: str, size: int) -> None:
    model = small(size, network=network, widths=(4, 4, 4)).eval()
    x = images(2, size)
    assert model.reconstruct(x).shape == x.shape
    assert model.sample(Noise([1, 2]), None, VAESampling()).shape == x.shape


def test_rows_are_independent_and_temperature_narrows() -> None:
    model = small(prior="flow").eval()
    both = model.sample(Noise([3, 4]), None, VAESampling())
    torch.testing.assert_close(model.sample(Noise([4]), None, VAESampling()), both[1:], rtol=0, atol=1e-4)
    cold = model.sample(Noise([3, 4]), None, VAESampling(temperature=1e-4))
    assert (cold[0] - cold[1]).abs().max() < 1e-2 < (both[0] - both[1]).abs().max()


def test_networks_in_bf16_draw_nearly_the_same() -> None:
    model = small(prior="flow", network="residual").eval()
    exact = model.sample(Noise(range(4)), None, VAESampling())
    model.decoder.bfloat16()
    z = Noise(range(4))(4).bfloat16()
    drawn, _, _ = model.decoder(z, from_noise=True)
    assert drawn.dtype == torch.float32
    assert (drawn.clamp(-1, 1) - exact).abs().max() < 0.05


def trained_flow(latent: int) -> nets.Flow:
    torch.manual_seed(1)
    flow = nets.Flow(latent, depth=6, width=16).double()
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=0.3)
    return flow


@pytest.mark.parametrize("latent", [2, 5, 8])
def test_a_flow_is_a_density(latent: int) -> None:
    """ln p(z) = ln N(u; 0, I) - ln |det dz/du| at z = inverse(u), the determinant by automatic differentiation."""
    flow = trained_flow(latent)
    u = torch.randn(3, latent, dtype=torch.float64)
    z = flow.inverse(u)
    jacobians = [torch.autograd.functional.jacobian(lambda v: flow.inverse(v[None])[0], row) for row in u]
    wanted = -0.5 * (u.square() + math.log(2 * math.pi)).sum(1) - torch.stack([j.slogdet()[1] for j in jacobians])
    torch.testing.assert_close(flow(z), wanted)


def test_an_untrained_flow_is_the_normal_prior() -> None:
    z = torch.randn(3, 6)
    torch.testing.assert_close(nets.Flow(6)(z), torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1))


def test_with_a_flow_the_rate_averages_to_the_divergence() -> None:
    flow, normal = small(prior="flow"), small()
    normal.encoder.load_state_dict(flow.encoder.state_dict())
    x = images().double()
    flow, normal = flow.double().eval(), normal.double().eval()
    eps = torch.randn(400, 4, dtype=torch.float64)
    estimates = torch.stack([flow.measure(x, row.expand(4, 4)).rate.sum(1) for row in eps])
    wanted = normal.measure(x, eps[:4]).rate.sum(1)
    assert ((estimates.mean(0) - wanted).abs() < 5 * estimates.std(0) / 400**0.5 + 1e-9).all()


def test_bands_are_a_rotation() -> None:
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    bands = nets.haar_bands(x, 3)
    assert [band.shape[-1] for band in bands] == [2, 2, 2, 2, 4, 4, 4, 8, 8, 8]
    assert sum(float(band.square().sum()) for band in bands) == pytest.approx(float(x.square().sum()))
    matrix = torch.stack(
        [torch.cat([b.flatten() for b in nets.haar_bands(e.view(1, 3, 4, 4), 2)]) for e in torch.eye(48).double()]
    )
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(48, dtype=torch.float64))
    flat = nets.haar_bands(torch.ones(1, 3, 4, 4, dtype=torch.float64), 2)
    assert sum(float(band.abs().sum()) for band in flat[1:]) < 1e-9, "a constant has no detail"


def test_bands_of_equal_deviation_are_one_gaussian() -> None:
    one, many = small(), small(bands=3)
    many.load_state_dict({n: t for n, t in one.state_dict().items() if "steep" not in n}, strict=False)
    eps = torch.zeros(4, 4)
    found = [m.eval().measure(images(), eps).distortion for m in (one, many)]
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-2)


def test_deviations_are_learned_within_some_hundred_steps() -> None:
    """The optimum of the scale is the root of the mean squared error (Rybkin et al. 2021, section 3.1)."""
    model = small(latent=1)
    steepness = model.decoder.steepness
    assert steepness is not None
    optimizer = torch.optim.Adam([steepness], lr=1e-3)
    for _ in range(300):
        torch.manual_seed(0)
        losses = model.loss(Batch(images()))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    learned = float(torch.exp(steepness.detach() * nets.STEEP))
    assert learned == pytest.approx(float(losses["mse"]) ** 0.5, rel=0.02)


# ---- abilities, failures ------------------------------------------------------------------------------------------


def test_denoising_sees_the_noise_that_was_asked_for() -> None:
    model, x = small().eval(), images()
    clean = model.translate(x, Noise(range(4)), Edit(), VAESampling())
    assert torch.equal(clean, model.reconstruct(x))
    noise = Noise(range(4))(3, 16, 16)
    noisy = model.translate(x, Noise(range(4)), Edit(noise=0.2), VAESampling())
    torch.testing.assert_close(noisy, model.reconstruct(x + 0.2 * noise))
    assert not torch.equal(noisy, clean)


def test_it_says_what_is_wrong() -> None:
    model = small(warmup="1k images")
    assert model.diagnose({}) == []
    assert model.diagnose({"model/kl": 0.2, "model/kl_factor": 0.5}) == []
    assert model.diagnose({"model/kl": 40.0, "model/kl_factor": 1.0}) == []
    (collapse,) = model.diagnose({"model/kl": 0.2, "model/kl_factor": 1.0})
    assert collapse.name == "posterior collapse"
    assert "0.20 nats" in collapse.says
    (large,) = model.diagnose({"model/kl": 1e5, "model/kl_factor": 1.0})
    assert large.name == "exploding latents"
    for finding in (collapse, large):
        for word in finding.flag.split("--set ")[1:]:
            section, key = word.split("=")[0].split(".", 1)
            assert section in ("model", "optim")
            assert section == "optim" or key in {field.name for field in dataclasses.fields(Model)}


@pytest.mark.parametrize(
    ("settings", "size", "said"),
    [
        ({"widths": (8,) * 5}, 16, "cannot be halved 5 times"),
        ({"network": "residual"}, 17, "odd size"),
        ({"bands": 3}, 20, "no 3 Haar levels"),
        ({"bands": 2, "likelihood": "scaled"}, 16, "one fixed deviation"),
        ({"free_bits": 0.1, "prior": "flow"}, 16, "no KL per latent"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], size: int, said: str) -> None:
    with refusal(said):
        VAE(Model(**(SMALL | settings)), DataSpec(size, 100))


def test_a_set_that_is_too_small_is_refused_on_the_command_line(faces: Any, tmp_path: Any) -> None:
    said = refused(2, "train", "vae", "--preset", "smoke", "--data", faces, "--out", tmp_path / "run",
                   "--device", "cpu", "--set", "model.widths=[8,8,8,8,8]")  # fmt: skip
    assert "cannot be halved 5 times" in said
