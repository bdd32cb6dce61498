"""Score SDEs against closed forms: marginals, the likelihood and the samples of a Gaussian, the networks' parts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import pytest
import torch
from chain import done
from pictures import refusal
from tiny_runs import make, unet
from torch import Tensor

from animegen_cli import config, paths
from animegen_cli.model import diffusion, families, samplers
from animegen_cli.model.families import sde
from animegen_cli.model.family import Batch, DataSpec
from animegen_cli.model.nets.scorenet import Resample, ScoreNet, ScoreNetConfig
from animegen_cli.model.noise import Noise
from animegen_cli.model.schedules import SDE, VE, VP, SubVP

if TYPE_CHECKING:
    from pathlib import Path

MEAN, STD = 0.2, 0.5
PROCESSES = {"ve": VE(0.02, 100.0, 1e-5), "vp": VP(0.1, 20.0, 1e-5), "subvp": SubVP(0.1, 20.0, 1e-5)}


def gaussian(x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
    """E[x_0 | x] of N(0.2, 0.5^2): the posterior mean of a normal variable seen through normal noise."""
    variance = sigma.view(-1, *[1] * (x.dim() - 1)) ** 2
    return (STD**2 * x + variance * MEAN) / (STD**2 + variance)


def tiny(**changes: Any) -> sde.ScoreSDE:
    return unet(sde.ScoreSDE, 8, **{"dropout": 0.0} | changes).eval()


# ---- the processes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROCESSES)
def test_marginals_follow_from_the_coefficients(name: str) -> None:
    """da/dt = f a and d s^2/dt = 2 f s^2 + g^2 from (1, s(0)), integrated step by step in float64."""
    process = PROCESSES[name]
    a, variance, steps = 1.0, float(process.rates(torch.zeros((), dtype=torch.float64))[1]) ** 2, 20_000
    for step in range(steps):
        f, g_squared = process.coefficients((step + 0.5) / steps)
        growth = math.exp(f / steps)
        a *= growth
        variance = variance * growth**2 + g_squared / steps * growth
        if step + 1 in (steps // 4, steps):
            rates = process.rates(torch.tensor((step + 1) / steps, dtype=torch.float64))
            assert a == pytest.approx(float(rates[0]), rel=1e-6)
            assert math.sqrt(variance) == pytest.approx(float(rates[1]), rel=1e-5)


def test_rates_at_known_times() -> None:
    half, end = (torch.tensor(t, dtype=torch.float64) for t in (0.5, 1.0))
    assert float(VE(0.01, 90.0).rates(half)[1]) == pytest.approx(math.sqrt(0.01 * 90))
    assert float(VE(0.01, 90.0).rates(end)[1]) == pytest.approx(90)
    a = math.exp(-(20 - 0.1) / 4 - 0.1 / 2)  # presets: ln a = -t^2 (20 - 0.1) / 4 - 0.1 t / 2
    assert float(VP().rates(end)[0]) == pytest.approx(a)
    assert float(VP().rates(end)[1]) == pytest.approx(math.sqrt(1 - a * a))
    assert float(SubVP().rates(end)[1]) == pytest.approx(1 - a * a)
    assert float(SubVP().rates(half)[1]) == pytest.approx(float(VP().rates(half)[1]) ** 2)


@pytest.mark.parametrize("name", PROCESSES)
def test_time_of_inverts_sigma(name: str) -> None:
    process = PROCESSES[name]
    times = torch.tensor([1e-4, 1e-2, 0.3, 0.7, 1.0], dtype=torch.float64)
    a, s = process.rates(times)
    torch.testing.assert_close(process.time_of(s / a), times, rtol=1e-8, atol=1e-12)
    assert process.level_at(1.0) == pytest.approx(process.sigma_max)
    levels = process.sigmas(10)
    assert levels[-1] == 0
    assert bool((levels.diff() < 0).all())


def test_steps_of_the_chains() -> None:
    """DDPM's chain keeps unit variance; SMLD's steps add up to the whole variance."""
    shrink, variance = VP().discretized(0.4, 1e-3)
    assert (1 + shrink) ** 2 + variance == pytest.approx(1)
    process, steps = VE(0.01, 50.0), 1000
    total = sum(process.discretized((k + 1) / steps, 1 / steps)[1] for k in range(steps))
    assert total == pytest.approx(50.0**2, rel=1e-3)


# ---- what they draw, and how probable it is ---------------------------------------------------------------------


@pytest.mark.parametrize("name", PROCESSES)
def test_flow_likelihood_of_a_gaussian_is_exact(name: str) -> None:
    process = PROCESSES[name]
    x = torch.linspace(-1.2, 1.4, 2 * 12, dtype=torch.float64).view(2, 3, 2, 2)
    probe = torch.where(torch.arange(24).view(2, 3, 2, 2) % 3 == 0, -1.0, 1.0).double()

    def centered(x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        return x * STD**2 / (STD**2 + sigma.view(-1, 1, 1, 1) ** 2)

    found = diffusion.flow_nats(diffusion.DiffusionModel(process, centered), x, probe, tolerance=1e-7)
    # The points count as the lowest level; the prior ignores what is left of the data at the highest.
    spread = STD**2 + process.sigma_min**2
    exact = (0.5 * x**2 / spread + 0.5 * math.log(2 * math.pi * spread)).flatten(1).sum(1)
    prior = process.scale_at(process.sigma_max)
    assert abs(prior**2 / (STD**2 + process.sigma_max**2) - 1) < 1e-3
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-3)


def test_flow_likelihood_has_the_divergence_of_a_full_matrix() -> None:
    """Correlated pixels: Hutchinson's estimate, exact on average over all 16 signs, against the exact density."""
    covariance = torch.tensor([[1.0, 0.6, 0.1, 0], [0.6, 0.8, 0, 0.2], [0.1, 0, 0.5, 0], [0, 0.2, 0, 0.3]]).double()

    def denoise(x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        gain = covariance @ torch.linalg.inv(covariance + sigma.view(-1, 1, 1).double() ** 2 * torch.eye(4).double())
        return (gain @ x.view(-1, 4, 1)).view(x.shape)

    point = torch.tensor([0.5, -0.3, 0.2, 0.9]).double()
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 4).double().view(16, 1, 2, 2)
    process = diffusion.DiffusionModel(PROCESSES["ve"], denoise)
    found = diffusion.flow_nats(process, point.expand(16, 4).reshape(16, 1, 2, 2), signs, tolerance=1e-6)
    noisy = covariance + PROCESSES["ve"].sigma_min ** 2 * torch.eye(4).double()
    exact = -torch.distributions.MultivariateNormal(torch.zeros(4).double(), noisy).log_prob(point)
    assert found.std() > 0.01
    assert float(found.mean()) == pytest.approx(float(exact), abs=2e-3)


@pytest.mark.parametrize(
    ("name", "predictor", "corrections"),
    [(name, "reverse-diffusion", 1) for name in PROCESSES] + [(name, "euler-maruyama", 0) for name in ("vp", "subvp")],
)
def test_predictor_corrector_draws_the_gaussian(
    name: str, predictor: Literal["reverse-diffusion", "euler-maruyama"], corrections: int
) -> None:
    process: SDE = {"ve": VE(0.02, 100.0), "vp": VP(), "subvp": SubVP()}[name]
    noise = Noise(range(32))
    x = noise(3, 8, 8) * process.prior
    x = samplers.predictor_corrector(
        gaussian,
        x,
        process,
        600,
        noise=noise,
        predictor=predictor,
        corrector=samplers.Corrector(steps=corrections, snr=0.1),
    )
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(x.std()) == pytest.approx(STD, abs=0.025)


@pytest.mark.parametrize("name", PROCESSES)
def test_flow_carries_the_prior_to_the_gaussian(name: str) -> None:
    """Affine: x goes to mean + std / deviation * (x - mean) at the lowest level."""
    process = PROCESSES[name]
    high, low = process.sigma_max, process.sigma_min
    x = torch.linspace(-2, 2, 12, dtype=torch.float64).view(2, 3, 2, 1) * process.scale_at(high)
    found = samplers.flow(gaussian, x, high, low, tolerance=1e-8)
    shrink = math.sqrt((STD**2 + low**2) / (STD**2 + high**2))
    torch.testing.assert_close(found, MEAN + shrink * (x - MEAN), rtol=1e-5, atol=1e-5)


def test_rows_of_the_solver_do_not_depend_on_each_other() -> None:
    def slope(u: Tensor, x: Tensor) -> Tensor:
        return -x * torch.stack([torch.full_like(u, 1.0), 40 * u.cos()], dim=1)

    x = torch.tensor([[1.0, 1.0], [3.0, -200.0]], dtype=torch.float64)
    both = samplers.rk45(slope, x, 0.0, 2.0, tolerance=1e-6)
    alone = samplers.rk45(slope, x[:1], 0.0, 2.0, tolerance=1e-6)
    torch.testing.assert_close(both[:1], alone, rtol=1e-10, atol=0)
    exact = x * torch.tensor([math.exp(-2), math.exp(-40 * math.sin(2))], dtype=torch.float64)
    torch.testing.assert_close(both, exact, rtol=1e-4, atol=1e-5)


# ---- the family -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["pc", "ode", "ancestral", "ddim", "dpmpp", "heun"])
@pytest.mark.parametrize("process", ["ve", "vp", "subvp"])
def test_every_sampler_draws(process: str, sampler: Any) -> None:
    sampling = sde.SDESampling(sampler=sampler, steps=3, corrections=1, tolerance=1e-2)
    model = tiny(process=process)
    with torch.inference_mode():
        images = model.sample(Noise([1, 2]), None, sampling)
        alone = model.sample(Noise([2]), None, sampling)
    assert float((images[1] - alone[0]).norm() / (images[1] - images[0]).norm()) < 1e-3
    assert images.shape == (2, 3, 8, 8)
    assert bool(images.isfinite().all())
    assert float(images.abs().max()) <= 1


def test_loss_is_the_noise_error_and_half_its_sum() -> None:
    images = torch.linspace(-1, 1, 2 * 192).view(2, 3, 8, 8)
    for process in ("ve", "vp", "subvp"):
        torch.manual_seed(3)
        mean = tiny(process=process).loss(Batch(images))
        summed = tiny(process=process, reduce="sum").loss(Batch(images))
        torch.manual_seed(0)
        assert list(mean) == ["mse"]
        # A network that starts at zero predicts no noise: the error is the noise's own square, one on average.
        assert float(mean["mse"].detach()) == pytest.approx(1, abs=0.2)
        assert float(summed["score"].detach()) == pytest.approx(float(summed["mse"]) * 192 / 2, rel=1e-5)


def test_a_velocity_is_learned_and_read_as_what_it_is() -> None:
    """Of flat images of 0.5 in VP: v = a eps - s / 2; a network that knows it leaves no error and sees 0.5 at every level."""
    images = torch.full((64, 3, 8, 8), 0.5)
    model = tiny(predicts="velocity")
    torch.manual_seed(3)
    losses = model.loss(Batch(images))
    assert list(losses) == ["velocity", "mse"]
    # It starts at zero: the loss is a^2 + s^2 / 4 on average over t, between 1/4 and 1.
    assert 0.25 < float(losses["velocity"].detach()) < 0.6
    assert float(losses["mse"]) < float(losses["velocity"].detach())

    def knowing(x_t: Tensor, time: Tensor, s: Tensor, labels: Tensor | None) -> Tensor:
        a, s = (rate.view(-1, 1, 1, 1) for rate in model.schedule.rates(time))
        return a * (x_t - a * 0.5) / s - s * 0.5

    model.predict = knowing  # type: ignore[method-assign]
    assert float(model.loss(Batch(images))["velocity"]) == pytest.approx(0, abs=1e-6)
    noise = torch.randn(2, 3, 8, 8)
    for sigma in (0.02, 1.0, 150.0):
        seen = model.denoise(0.5 + sigma * noise, torch.full((2,), sigma))
        torch.testing.assert_close(seen, torch.full_like(seen, 0.5), atol=1e-3, rtol=0)


def test_an_error_of_the_network_burns_colors_through_noise_and_not_through_velocity() -> None:
    """The same error of 0.02 where the noise is strongest: beyond the range of pixels by noise, 0.02 by velocity."""
    x = torch.zeros(1, 3, 8, 8)
    errors = []
    for predicts in ("noise", "velocity"):
        model = tiny(predicts=predicts).requires_grad_(False)
        level = torch.tensor([model.schedule.sigma_max])
        before = model.denoise(x, level)
        model.net.get_parameter("head.bias").add_(0.02)
        errors.append(float((model.denoise(x, level) - before).abs().max()))
    assert errors[0] > 2
    assert errors[1] == pytest.approx(0.02, rel=0.01)


def test_few_steps_of_the_predictor_corrector_are_warned_of(tmp_path: Path) -> None:
    assert sde.SDESampling(sampler="pc", steps=50).cautions() == []
    assert sde.SDESampling(sampler="dpmpp", steps=3).cautions() == []
    run = make("sde", tmp_path / "run")
    warned = done("sample", run.path, "--seeds", "0", "--steps", "49", "--device", "cpu").err
    assert "warning: 49 steps of the predictor-corrector" in warned
    assert "--sampler dpmpp" in warned
    assert (
        "predictor-corrector"
        not in done("sample", run.path, "--seeds", "0", "--sampler", "ddim", "--device", "cpu").err
    )


def test_bits_per_dim_of_the_untrained_network_is_that_of_its_gaussian() -> None:
    """A network that predicts no noise leaves the flow standing: the density is the prior's, at the image itself."""
    model = tiny(process="ve")
    images = torch.zeros(2, 3, 8, 8)
    found = model.bits_per_dim(images, Noise([1, 2]))
    expected = math.log2(127.5 * model.schedule.prior * math.sqrt(2 * math.pi))
    assert found.tolist() == pytest.approx([expected] * 2, abs=0.01)
    assert torch.equal(found, model.bits_per_dim(images, Noise([1, 2])))


def test_papers_networks() -> None:
    """NCSN++ has every feature that DDPM++ lacks; their published sizes are about 62 million."""
    for preset, time_embedding, fir in (("ve", "fourier", True), ("vp", "positional", False)):
        kind = families.load("sde")
        layer = config.Layer.from_yaml(paths.preset_file("sde", preset))
        settings = config.resolve([layer], family="sde", model=kind.Config, sample=kind.Sampling, optimizers=["model"])
        assert (settings.model.time_embedding, settings.model.fir, settings.model.pyramid) == (time_embedding, fir, fir)
        with torch.device("meta"):
            count = sum(p.numel() for p in kind(settings.model, DataSpec(64, 10)).parameters())
        assert 55e6 < count < 70e6


def test_filters_keep_means_and_halve_exactly() -> None:
    ramp = torch.arange(8.0).view(1, 1, 1, 8).expand(1, 2, 8, 8)
    fir, plain = Resample(fir=True), Resample(fir=False)
    torch.testing.assert_close(fir.down(ramp)[0, 0, 1, 1:3], torch.tensor([2.5, 4.5]))
    torch.testing.assert_close(plain.down(ramp)[0, 0, 0], torch.tensor([0.5, 2.5, 4.5, 6.5]))
    torch.testing.assert_close(fir.up(ramp)[0, 0, 4, 4:8], torch.tensor([1.75, 2.25, 2.75, 3.25]))
    torch.testing.assert_close(plain.up(ramp)[0, 0, 4, 4:8], torch.tensor([2.0, 2.0, 3.0, 3.0]))
    assert fir.blur(ramp).shape == (1, 2, 9, 9)
    torch.testing.assert_close(fir.blur(ramp)[0, 0, 4, 2:7], torch.tensor([1.5, 2.5, 3.5, 4.5, 5.5]))


def test_network_with_every_option_starts_at_zero_and_learns() -> None:
    torch.manual_seed(0)
    config = ScoreNetConfig(
        16,
        [8, 16],
        blocks=2,
        attention=[8],
        time_embedding="fourier",
        fir=True,
        pyramid=True,
        classes=[3],
        augment=9,
        patch=2,
    )
    net = ScoreNet(config)
    inputs = torch.randn(2, 3, 16, 16), torch.tensor([-3.0, 2.0]), torch.tensor([[2], [-1]]), torch.randn(2, 9)
    output = net(*inputs)
    assert output.shape == (2, 3, 16, 16)
    assert float(output.detach().abs().max()) == 0
    assert net.state_dict()["embedding.speeds"].shape == (8,)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    net(*inputs).square().mean().backward()
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in net.parameters())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"process": "ve", "predicts": "velocity"}, "velocity"),
        ({"process": "subvp", "predicts": "velocity"}, "a\\^2"),
        ({"multipliers": (1, 1, 1, 1, 1)}, "halved"),
        ({"sigma_max": 0.005}, "sigma"),
        ({"beta_max": 0.05}, "beta"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, Any], said: str) -> None:
    with refusal(said):
        tiny(**changes)


@pytest.mark.parametrize("sampler", ["dpmpp", "pc"])
def test_clipping_bounds_what_the_sampler_sees(sampler: Literal["dpmpp", "pc"]) -> None:
    """An untrained network sees x itself as the clean image, which reaches far beyond [-1, 1] where the noise is strong."""
    model, furthest = tiny(), dict[bool, float]()
    for clip in (False, True):
        seen: list[Tensor] = []

        def note(step: int, x: Tensor, denoised: Tensor, seen: list[Tensor] = seen) -> None:
            seen.append(denoised.detach())

        model.sample(Noise([1]), None, sde.SDESampling(sampler=sampler, steps=8, clip=clip), note)
        assert len(seen) == 8
        furthest[clip] = float(torch.stack(seen).abs().max())
    assert furthest[True] <= 1 < furthest[False]
