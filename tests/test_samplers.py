"""Samplers against a problem with a known answer, against the papers' own formulas, and against diffusers.

The problem: data N(0, c^2) with c^2 = 0.49, whose exact denoiser is linear, so that the probability-flow path from
level sigma_max to sigma is x * sqrt((c^2 + sigma^2) / (c^2 + sigma_max^2)).
"""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import pytest
import torch
from torch import Tensor

from animegen_cli.model import conditioning, diffusion, samplers
from animegen_cli.model.noise import Noise
from animegen_cli.model.samplers import Churn, SamplerConfig, ancestral, ddim, dpmpp, guided, heun
from animegen_cli.model.schedules import DiscreteSchedule, Spacing, cosine_betas, karras_sigmas, linear_betas

if TYPE_CHECKING:
    from collections.abc import Callable

C2 = 0.49
LINEAR = DiscreteSchedule(linear_betas(1000))
COSINE = DiscreteSchedule(cosine_betas(1000))


def exact(x: Tensor, sigma: Tensor) -> Tensor:
    """E[x_0 | x_0 + sigma * noise] of the Gaussian."""
    return C2 / (C2 + sigma.view(-1, 1, 1, 1) ** 2) * x


def crooked(x: Tensor, sigma: Tensor) -> Tensor:
    """Some denoiser that is neither linear nor right: formulas must agree for any."""
    level = sigma.view(-1, 1, 1, 1)
    return torch.tanh(x / (1 + level)) + 0.1 * torch.sin(3 * x / (1 + level))


def geometric(steps: int, high: float = 10.0, low: float = 0.05) -> list[float]:
    """`steps` intervals, even in log sigma, that stop above 0, where every method is smooth."""
    return torch.linspace(math.log(high), math.log(low), steps + 1, dtype=torch.float64).exp().tolist()


class Draws:
    """Noise of one generator, for many images at once; remembers what it gave."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.count, self.given = count, list[Tensor]()
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int) -> Tensor:
        self.given.append(torch.randn(self.count, *shape, generator=self.generator, dtype=torch.float64))
        return self.given[-1]


def column(count: int, scale: float = 1.0, seed: int = 1) -> Tensor:
    return Draws(count, seed)(1, 1, 1) * scale


# ---- order of convergence -------------------------------------------------------------------------------------

DETERMINISTIC: dict[str, Callable[[list[float]], Tensor]] = {
    "ddim": lambda levels: ddim(exact, torch.ones(1, 1, 1, 1, dtype=torch.float64), levels),
    "euler": lambda levels: heun(exact, torch.ones(1, 1, 1, 1, dtype=torch.float64), levels, second_order=False),
    "dpmpp": lambda levels: dpmpp(exact, torch.ones(1, 1, 1, 1, dtype=torch.float64), levels),
    "heun": lambda levels: heun(exact, torch.ones(1, 1, 1, 1, dtype=torch.float64), levels),
}


@pytest.mark.parametrize(
    ("name", "order", "slack"), [("ddim", 1, 0.1), ("euler", 1, 0.1), ("dpmpp", 2, 0.15), ("heun", 2, 0.15)]
)
def test_order_of_convergence(name: str, order: float, slack: float) -> None:
    answer = math.sqrt((C2 + 0.05**2) / (C2 + 10.0**2))
    errors = [abs(float(DETERMINISTIC[name](geometric(steps))) - answer) for steps in (40, 80, 160, 320)]
    orders = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert orders[-1] == pytest.approx(order, abs=slack)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < (0.02 if order == 1 else 1e-3) * answer


def test_more_order_is_more_exact() -> None:
    answer = math.sqrt((C2 + 0.05**2) / (C2 + 10.0**2))
    error = {name: abs(float(run(geometric(40))) - answer) for name, run in DETERMINISTIC.items()}
    assert error["heun"] < error["ddim"] / 5
    assert error["dpmpp"] < error["ddim"] / 5


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpmpp", "heun", "euler"])
@pytest.mark.parametrize("schedule", [LINEAR, COSINE])
def test_every_sampler_reaches_the_data(sampler: Any, schedule: DiscreteSchedule) -> None:
    count = 20_000
    sampling = SamplerConfig(sampler=sampler, steps=400, spacing="logsnr")
    sigmas = schedule.sigmas(sampling.steps, sampling.spacing)
    x = column(count, schedule.scale_at(float(sigmas[0])))
    got = samplers.run(sampling, exact, x, sigmas.tolist(), Draws(count))
    assert float(got.mean()) == pytest.approx(0, abs=0.02)
    assert float(got.std()) == pytest.approx(0.7, rel=0.03)


def test_ddim_and_euler_are_the_same_walk() -> None:
    levels, x = geometric(17), column(50, 10.0)
    torch.testing.assert_close(ddim(crooked, x, levels), heun(crooked, x, levels, second_order=False))


def test_first_step_of_dpmpp_is_ddim() -> None:
    x = column(50, 10.0)
    torch.testing.assert_close(dpmpp(crooked, x, [10.0, 3.0]), ddim(crooked, x, [10.0, 3.0]))


def test_dpmpp_by_hand() -> None:
    """Lu et al. 2022, algorithm 2, in VP coordinates x = a x_VE with lambda = ln(a / s)."""
    levels = [*geometric(12, 20.0, 0.02)]
    a = [1 / math.sqrt(1 + sigma**2) for sigma in levels]
    s = [sigma * rate for sigma, rate in zip(levels, a, strict=True)]
    half_log_snr = [math.log(rate / noise) for rate, noise in zip(a, s, strict=True)]
    start = column(20, 20.0)
    x, previous = start * a[0], None
    for i in range(12):
        denoised = crooked(x / a[i], torch.tensor([levels[i]], dtype=torch.float64))
        h = half_log_snr[i + 1] - half_log_snr[i]
        data = denoised
        if previous is not None:
            r = (half_log_snr[i] - half_log_snr[i - 1]) / h
            data = (1 + 1 / (2 * r)) * denoised - previous / (2 * r)
        x = s[i + 1] / s[i] * x - a[i + 1] * (math.exp(-h) - 1) * data
        previous = denoised
    torch.testing.assert_close(dpmpp(crooked, start, levels) * a[-1], x)


def test_dpmpp_ends_in_first_order_when_short() -> None:
    """Below ten steps the last step forgets history; from ten on it does not."""
    for steps, first_order in ((9, True), (10, False)):
        levels, x, states = geometric(steps), column(20, 10.0), list[Tensor]()

        def note(step: int, state: Tensor, denoised: Tensor, states: list[Tensor] = states) -> None:
            states.append(state)

        got = dpmpp(crooked, x, levels, callback=note)
        alone = ddim(crooked, states[-1], levels[-2:])
        assert torch.allclose(got, alone) == first_order


def test_last_step_to_zero_returns_the_clean_estimate() -> None:
    x, levels = column(20, 3.0), [3.0, 1.0, 0.4, 0.0]
    for run in (ddim, dpmpp, heun):
        last: list[Tensor] = []

        def note(step: int, state: Tensor, denoised: Tensor, last: list[Tensor] = last) -> None:
            last.append(denoised)

        got = run(crooked, x, levels, callback=note)
        torch.testing.assert_close(got, last[-1])


# ---- the ancestral sampler ------------------------------------------------------------------------------------


def to_vp(x: Tensor, n: int) -> Tensor:
    return x * LINEAR.abar[n].sqrt()


@pytest.mark.parametrize("n", [1, 2, 10, 500, 999])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_one_ancestral_step_is_that_of_ho(n: int, variance: Literal["small", "large"]) -> None:
    """Ho et al. 2020, algorithm 2: in terms of eps, and with sigma_t^2 = beta_t or beta~_t."""
    beta, abar, before = LINEAR.betas[n], LINEAR.abar[n], LINEAR.abar[n - 1]
    levels = [float(LINEAR.table[n]), float(LINEAR.table[n - 1])]
    x, draws = column(100, levels[0]), Draws(100)
    got = to_vp(ancestral(crooked, x, levels, noise=draws, variance=variance), n - 1)

    eps = (x - crooked(x, torch.tensor([levels[0]], dtype=torch.float64))) / levels[0]
    x_t = to_vp(x, n)
    mean = (x_t - beta / (1 - abar).sqrt() * eps) / (1 - beta).sqrt()
    spread = beta if variance == "large" else (1 - before) / (1 - abar) * beta
    torch.testing.assert_close(got, mean + spread.sqrt() * draws.given[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("n", "then"), [(999, 980), (500, 250), (19, 0)])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_a_strided_step_is_the_posterior(n: int, then: int, variance: Literal["small", "large"]) -> None:
    """Presets of 50 steps replace beta_t by 1 - abar_t / abar_t'."""
    abar, before = LINEAR.abar[n], LINEAR.abar[then]
    beta = 1 - abar / before
    levels = [float(LINEAR.table[n]), float(LINEAR.table[then])]
    x, draws = column(100, levels[0]), Draws(100)
    denoised = crooked(x, torch.tensor([levels[0]], dtype=torch.float64))
    mean = before.sqrt() * beta / (1 - abar) * denoised + (1 - beta).sqrt() * (1 - before) / (1 - abar) * to_vp(x, n)
    spread = beta if variance == "large" else (1 - before) / (1 - abar) * beta
    got = to_vp(ancestral(crooked, x, levels, noise=draws, variance=variance), then)
    torch.testing.assert_close(got, mean + spread.sqrt() * draws.given[0], rtol=1e-9, atol=1e-9)


def test_no_noise_at_the_last_ancestral_step() -> None:
    draws, x = Draws(10), column(10)
    torch.testing.assert_close(ancestral(crooked, x, [1.0, 0.0], noise=draws), crooked(x, torch.ones(1)))
    assert not draws.given


@pytest.mark.parametrize("variance", ["small", "large"])
def test_full_ancestral_sampling_keeps_the_deviation(variance: Literal["small", "large"]) -> None:
    """All 1000 levels: both variances are right in the limit; the exact value comes from an independent recursion."""
    spread = 1.0
    for n in range(999, -1, -1):
        beta, abar, before = float(LINEAR.betas[n]), float(LINEAR.abar[n]), float(LINEAR.abar[n - 1]) if n else 1.0
        denoised = math.sqrt(abar) * C2 / (abar * C2 + 1 - abar)  # E[x_0 | x_t] = clean * x_t
        gain = (math.sqrt(before) * beta * denoised + math.sqrt(1 - beta) * (1 - before)) / (1 - abar)
        added = 0.0 if n == 0 else beta if variance == "large" else (1 - before) / (1 - abar) * beta
        spread = gain**2 * spread + added
    assert math.sqrt(spread) == pytest.approx(0.7, rel=0.01)

    count = 20_000
    sigmas = LINEAR.sigmas(1000, "trailing").tolist()
    x = column(count, LINEAR.scale_at(sigmas[0]))
    got = ancestral(exact, x, sigmas, noise=Draws(count), variance=variance)
    assert float(got.std()) == pytest.approx(math.sqrt(spread), rel=4 / math.sqrt(2 * count))


# ---- DDIM and stochastic relatives ----------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("n", "then"), [(999, 979), (500, 499), (20, 0)])
def test_one_ddim_step_is_that_of_song(eta: float, n: int, then: int) -> None:
    """Song et al. 2021, equations 12 and 16."""
    abar, before = LINEAR.abar[n], LINEAR.abar[then]
    levels = [float(LINEAR.table[n]), float(LINEAR.table[then])]
    x, draws = column(100, levels[0]), Draws(100)
    denoised = crooked(x, torch.tensor([levels[0]], dtype=torch.float64))
    eps = (x - denoised) / levels[0]
    sigma = eta * ((1 - before) / (1 - abar)).sqrt() * (1 - abar / before).sqrt()
    got = to_vp(ddim(crooked, x, levels, noise=draws, eta=eta), then)
    added = draws.given[0] if eta else torch.zeros_like(x)
    expected = before.sqrt() * denoised + (1 - before - sigma**2).sqrt() * eps + sigma * added
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_ddim_with_eta_one_is_ancestral_with_the_small_variance() -> None:
    sigmas = LINEAR.sigmas(50, "trailing").tolist()
    x = column(200, LINEAR.scale_at(sigmas[0]))
    one = ddim(crooked, x, sigmas, noise=Draws(200), eta=1.0)
    other = ancestral(crooked, x, sigmas, noise=Draws(200), variance="small")
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_deterministic_samplers_draw_no_noise() -> None:
    draws, x, levels = Draws(5), column(5, 10.0), [*geometric(12), 0.0]
    ddim(crooked, x, levels, noise=draws, eta=0.0)
    heun(crooked, x, levels, noise=draws, churn=Churn(s_churn=0.0))
    assert not draws.given


def test_churn_keeps_the_deviation() -> None:
    """Karras et al. 2022, algorithm 2, with S_churn = 40 over 40 steps; the exact value from an independent recursion."""
    levels = karras_sigmas(40, 0.002, 80).tolist()
    gamma = math.sqrt(2) - 1  # min(40 / 40, sqrt(2) - 1)
    spread = C2 + 80**2
    for now, then in pairwise(levels):
        high = now * (1 + gamma)
        spread += high**2 - now**2
        slope = high / (C2 + high**2)  # d = (x - D(x)) / sigma = slope * x
        gain = 1 + (then - high) * slope
        if then > 0:
            gain = 1 + (then - high) * (slope + then / (C2 + then**2) * gain) / 2
        spread *= gain**2
    assert math.sqrt(spread) == pytest.approx(0.7, rel=0.04)

    count = 50_000
    x, draws = column(count, math.sqrt(C2 + 80**2)), Draws(count)
    got = heun(exact, x, levels, noise=draws, churn=Churn(s_churn=40.0))
    assert len(draws.given) == 40
    assert float(got.std()) == pytest.approx(math.sqrt(spread), rel=4 / math.sqrt(2 * count))
    still = heun(exact, x, levels, noise=Draws(count))
    assert abs(float((got * still).mean() / (got.std() * still.std()))) < 0.05, "churn must forget the start"


@pytest.mark.parametrize(("s_churn", "gamma"), [(0.5, 0.25), (10.0, math.sqrt(2) - 1)])
def test_churn_raises_the_level(s_churn: float, gamma: float) -> None:
    """Karras et al. 2022, algorithm 2: gamma = min(S_churn / N, sqrt(2) - 1), here with N = 2."""
    x, draws, asked, states = column(5, 2.0), Draws(5), list[float](), list[Tensor]()

    def noted(state: Tensor, sigma: Tensor) -> Tensor:
        asked.append(float(sigma[0]))
        states.append(state)
        return exact(state, sigma)

    heun(noted, x, [2.0, 1.0, 0.0], noise=draws, churn=Churn(s_churn=s_churn), second_order=False)
    assert asked == pytest.approx([2 * (1 + gamma), 1 + gamma])
    torch.testing.assert_close(states[0], x + 2 * math.sqrt((1 + gamma) ** 2 - 1) * draws.given[0])


def test_calls_per_step() -> None:
    calls, seen = list[float](), list[int]()

    def counted(x: Tensor, sigma: Tensor) -> Tensor:
        assert sigma.shape == (len(x),)
        calls.append(float(sigma[0]))
        return crooked(x, sigma)

    levels, x = [4.0, 2.0, 1.0, 0.5, 0.0], column(3, 4.0)
    for run, expected in (
        (partial(ancestral, noise=Draws(3)), [4, 2, 1, 0.5]),
        (ddim, [4, 2, 1, 0.5]),
        (dpmpp, [4, 2, 1, 0.5]),
        (heun, [4, 2, 2, 1, 1, 0.5, 0.5]),
        (partial(heun, second_order=False), [4, 2, 1, 0.5]),
    ):
        calls.clear()
        seen.clear()
        run(counted, x, levels, callback=lambda step, state, denoised: seen.append(step))
        assert calls == expected
        assert seen == [0, 1, 2, 3]


# ---- against diffusers ----------------------------------------------------------------------------------------


def their_walk(scheduler: Any, steps: int, start: Tensor) -> Tensor:
    """The whole loop as diffusers' users write it, with the noise of `crooked`."""
    scheduler.set_timesteps(steps)
    x = start
    for t in scheduler.timesteps:
        sigma = LINEAR.table[int(t)]
        denoised = crooked(x * (1 + sigma**2).sqrt(), sigma[None])
        eps = (x - denoised / (1 + sigma**2).sqrt()) * (1 + sigma**2).sqrt() / sigma
        x = scheduler.step(eps, t, x).prev_sample
    return x


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_walks_as_in_diffusers(spacing: Spacing) -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(timestep_spacing=spacing, clip_sample=False, set_alpha_to_one=True)
    start = column(50)
    sigmas = LINEAR.sigmas(50, spacing)
    ours = ddim(crooked, start * LINEAR.scale_at(float(sigmas[0])), sigmas.tolist())
    torch.testing.assert_close(ours, their_walk(scheduler, 50, start), rtol=1e-4, atol=1e-4)


def test_dpmpp_walks_as_in_diffusers() -> None:
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(
        timestep_spacing="trailing", final_sigmas_type="zero", solver_type="midpoint"
    )
    start = column(50)
    sigmas = LINEAR.sigmas(20, "trailing")
    ours = dpmpp(crooked, start * LINEAR.scale_at(float(sigmas[0])), sigmas.tolist())
    torch.testing.assert_close(ours, their_walk(scheduler, 20, start), rtol=1e-3, atol=1e-3)


# ---- guidance, predictions, weights ---------------------------------------------------------------------------


def test_guidance() -> None:
    asked: list[Tensor | None] = []

    def denoise(x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        asked.append(labels)
        return x + 1 if labels is None else x + 10

    x, sigma, labels = column(2), torch.ones(2), torch.tensor([[0], [1]])
    for weight, shift in ((0.0, 1), (1.0, 10), (3.0, 28), (0.5, 5.5)):
        torch.testing.assert_close(guided(denoise, labels, weight)(x, sigma), x + shift)
    asked.clear()
    guided(denoise, labels, 1.0)(x, sigma)
    assert len(asked) == 1
    assert asked[0] is labels
    asked.clear()
    torch.testing.assert_close(guided(denoise, None, 7.0)(x, sigma), x + 1)
    assert asked == [None]


def rates(t: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cos(t), torch.sin(t)


@pytest.mark.parametrize("predicts", ["noise", "image", "velocity"])
def test_a_perfect_prediction_gives_the_clean_image(predicts: diffusion.Predicts) -> None:
    x_0, noise = column(30), column(30, seed=2)
    a, s = rates(torch.linspace(0.1, 1.5, 30, dtype=torch.float64).view(-1, 1, 1, 1))
    x_t = diffusion.mix(x_0, noise, a, s)
    torch.testing.assert_close(x_t, a * x_0 + s * noise)
    wanted = diffusion.target(predicts, x_0, noise, a, s)
    torch.testing.assert_close(diffusion.clean_image(predicts, wanted, x_t, a, s), x_0)
    if predicts == "velocity":  # three more ways to write it
        torch.testing.assert_close(wanted, (noise - s * x_t) / a)
        torch.testing.assert_close(wanted, (a * x_t - x_0) / s)
        torch.testing.assert_close(noise, s * x_t + a * wanted)


def test_min_snr_weights_agree_between_predictions() -> None:
    """Any estimate of the image must cost min(SNR, 5) times its squared error, whatever the network predicts."""
    x_0, noise, guess = column(30), column(30, seed=2), column(30, seed=3)
    a, s = rates(torch.linspace(0.05, 1.5, 30, dtype=torch.float64).view(-1, 1, 1, 1))
    x_t = diffusion.mix(x_0, noise, a, s)
    as_output: dict[diffusion.Predicts, Tensor] = {
        "image": guess,
        "noise": (x_t - a * guess) / s,
        "velocity": (a * x_t - guess) / s,
    }
    expected = torch.minimum((a / s) ** 2, torch.tensor(5.0)) * (guess - x_0) ** 2
    for predicts, output in as_output.items():
        weight = diffusion.min_snr_weight(predicts, a, s, 5.0)
        loss = weight * (output - diffusion.target(predicts, x_0, noise, a, s)) ** 2
        torch.testing.assert_close(loss, expected)


def test_min_snr_weights_by_number() -> None:
    snr = torch.tensor([20.0, 5.0, 1.0, 0.25], dtype=torch.float64)
    a, s = (snr / (1 + snr)).sqrt(), (1 / (1 + snr)).sqrt()
    assert diffusion.min_snr_weight("noise", a, s, 5.0).tolist() == pytest.approx([0.25, 1, 1, 1])
    assert diffusion.min_snr_weight("image", a, s, 5.0).tolist() == pytest.approx([5, 5, 1, 0.25])
    assert diffusion.min_snr_weight("velocity", a, s, 5.0).tolist() == pytest.approx([5 / 21, 5 / 6, 1 / 2, 0.2])
    nothing, all_noise = torch.zeros(1), torch.ones(1)
    assert [float(diffusion.min_snr_weight(p, nothing, all_noise, 5.0)) for p in ("noise", "image", "velocity")] == [
        1,
        1,
        1,
    ]


# ---- a whole drawing ---------------------------------------------------------------------------------------------


def test_draw_starts_at_unit_variance_and_shows_unit_states() -> None:
    states: list[Tensor] = []
    sampling = SamplerConfig(sampler="ddim", steps=200, spacing="trailing")
    model = diffusion.DiffusionModel(LINEAR, lambda x, sigma, labels: exact(x, sigma))
    got = model.draw(8, Noise(range(64)), None, sampling, callback=lambda step, state, denoised: states.append(state))
    assert got.shape == (64, 3, 8, 8)
    torch.testing.assert_close(states[0], Noise(range(64))(3, 8, 8), rtol=1e-4, atol=1e-4)
    assert all(0.65 < float(state.std()) < 1.02 for state in states)
    assert float(got.std()) == pytest.approx(0.7, rel=0.05)


def test_draw_passes_labels_and_guidance() -> None:
    labels = torch.tensor([[1], [0]])
    seen: list[Tensor | None] = []

    def denoise(x: Tensor, sigma: Tensor, given: Tensor | None) -> Tensor:
        seen.append(given)
        return torch.zeros_like(x)

    diffusion.DiffusionModel(LINEAR, denoise).draw(8, Noise([0, 1]), labels, SamplerConfig(steps=2, guidance=2.0))
    assert [given is not None for given in seen] == [True, False, True, False]


def test_previews_are_short_and_deterministic() -> None:
    preview = SamplerConfig(
        sampler="ancestral", steps=1000, variance="large", guidance=3.0, s_churn=5.0, eta=1.0
    ).preview()
    assert (preview.sampler, preview.steps, preview.eta, preview.s_churn, preview.guidance) == (
        "ddim",
        20,
        0.0,
        0.0,
        3.0,
    )
    assert SamplerConfig(steps=5).preview().steps == 5


def test_training_drops_whole_rows_and_single_labels() -> None:
    torch.manual_seed(0)
    labels = torch.ones(40_000, 2, dtype=torch.int64)
    unknown = conditioning.drop_labels(labels, 0.1) == -1
    shares = [(unknown == torch.tensor(row)).all(1).double().mean().item() for row in ((1, 1), (0, 1), (1, 0), (0, 0))]
    # 0.1 dropped; 0.45 kept; of 0.45 a third keeps both, a third none, a sixth either one alone
    assert shares == pytest.approx([0.1 + 0.15, 0.075, 0.075, 0.45 + 0.15], abs=0.01)
    single = conditioning.drop_labels(torch.ones(40_000, 1, dtype=torch.int64), 0.1)
    assert (single == -1).double().mean().item() == pytest.approx(0.1, abs=0.01)
    assert torch.equal(conditioning.drop_labels(labels, 0.0), labels)
