"""A diffusion model as prior: its bound and its draws against N(0, I), as which it begins, and what it learns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from animegen_cli.errors import ConfigError
from animegen_cli.model import latent_prior
from animegen_cli.model.families.mhvae import MHVAE, MHVAESampling
from animegen_cli.model.families.mhvae import Model as HierarchyModel
from animegen_cli.model.families.vae import VAE, Model, VAESampling
from animegen_cli.model.family import Batch, DataSpec
from animegen_cli.model.latent_prior import Diffusion, DiffusionPrior
from animegen_cli.model.nets.hierarchy_build import CNN
from animegen_cli.model.noise import Noise
from animegen_cli.sample.trained import for_inference

TINY = Diffusion(channels=(16, 16))
HIERARCHY = CNN(
    width=16, bottleneck=0.5, fold=2, encoder="/2x1,/2d,/4x1", decoder="/4x2,/2m/4,/2p1", channels=(2, 1, 2)
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def images(count: int = 4, size: int = 16) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(5)) * 2 - 1


def vae(**settings: Any) -> VAE:
    torch.manual_seed(0)
    model: dict[str, Any] = {"network": "maps", "widths": (16, 16), "latent": 3, "diffusion": TINY, **settings}
    return VAE(Model(**model), DataSpec(16, 100))


def hierarchy(**settings: Any) -> MHVAE:
    torch.manual_seed(0)
    model: dict[str, Any] = {"likelihood": "gaussian", "cnn": HIERARCHY, "diffusion": TINY, **settings}
    return MHVAE(HierarchyModel(**model), DataSpec(16, 100))


@pytest.fixture
def prior() -> DiffusionPrior:
    torch.manual_seed(0)
    return DiffusionPrior((2, 4, 4), TINY)


def test_the_bound_of_an_untrained_prior_is_the_normal_density() -> None:
    """It denoises N(0, I) as well as can be, so that the bound of Kingma et al. 2021 is tight.

    The integrand is quadratic in the noise, so its mean over +-sqrt(L) e_i is that over the normal distribution.
    """
    prior = DiffusionPrior((1, 2, 2), Diffusion(channels=(16,)))
    z = 1.5 * normal(3, 4)
    axes = 2.0 * torch.cat([torch.eye(4), -torch.eye(4)])
    rows, noise = z.repeat_interleave(8, 0), axes.repeat(3, 1)[:, None].expand(-1, 64, -1)
    with torch.no_grad():
        found = prior.nats(rows, noise, latent_prior.evenly(24, 64, like=z)).view(3, 8).mean(1)
    torch.testing.assert_close(found, -torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1), rtol=0, atol=0.01)


def test_one_level_per_code_is_right_in_the_mean(prior: DiffusionPrior) -> None:
    z = normal(4096, 32)
    with torch.no_grad():
        found = prior.nats(z, normal(4096, 1, 32, seed=1), latent_prior.spread(4096, like=z))
    entropy = 16 * math.log(2 * math.pi * math.e)  # of N(0, I) in 32 dimensions
    assert found.mean().item() == pytest.approx(entropy, abs=2)


def test_an_untrained_prior_draws_its_own_noise(prior: DiffusionPrior) -> None:
    noise = normal(8, 32)
    with torch.no_grad():
        assert (prior.draw(noise, 40) - noise).abs().max() < 0.1


def test_it_learns_where_the_codes_are() -> None:
    """Codes of one pattern and small noise: what is drawn comes near it, and the bound sees that they are no N(0, I)."""
    torch.manual_seed(0)
    prior = DiffusionPrior((2, 4, 4), Diffusion(channels=(16,)))
    pattern = normal(1, 32, seed=2)
    optimizer = torch.optim.Adam(prior.parameters(), lr=5e-3)
    for _ in range(80):
        optimizer.zero_grad()
        prior.loss(pattern + 0.1 * torch.randn(16, 32)).backward()
        optimizer.step()
    codes = pattern + 0.1 * normal(64, 32, seed=3)
    with torch.no_grad():
        drawn = prior.draw(normal(16, 32))
        nats = prior.nats(codes, normal(64, 1, 32, seed=4), latent_prior.spread(64, like=codes)).mean()
    assert (drawn - pattern).square().mean() < 0.25 * pattern.square().mean()
    assert nats < 16 * math.log(2 * math.pi) + 0.5 * codes.square().sum(1).mean() - 10


@pytest.mark.parametrize("build", [vae, hierarchy])
def test_an_untrained_diffusion_prior_is_the_normal_one(build: Any) -> None:
    """The same networks with either prior: the same bits within the error of sixteen levels, and the same pictures."""
    one, other = build(prior="normal").eval(), build(prior="diffusion").eval()
    other.load_state_dict(one.state_dict(), strict=False)
    sampling = VAESampling if build is vae else MHVAESampling
    with torch.no_grad():
        bits = [model.bits_per_dim(images(16), Noise(range(16))).mean().item() for model in (one, other)]
        drawn = [model.sample(Noise(range(4)), None, sampling(steps=40)) for model in (one, other)]
    assert bits[1] == pytest.approx(bits[0], abs=0.02)
    assert (drawn[0] - drawn[1]).abs().mean() < 0.02


@pytest.mark.parametrize("build", [vae, hierarchy])
def test_the_autoencoder_learns_from_its_share_and_nothing_from_the_prior(build: Any) -> None:
    """Other images beyond the share change no gradient of encoder and decoder, and that of the prior."""
    found = []
    for last in (0.3, -0.3):
        model = build(prior="diffusion", share=0.5)
        batch = images(8)
        batch[4:] = last
        torch.manual_seed(1)
        model.loss(Batch(batch))["loss"].backward()
        found.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    own = [name for name in found[0] if ".diffusion." not in name and ".top." not in name]
    assert len(own) > 10
    assert all(torch.equal(found[0][name], found[1][name]) for name in own)
    assert any(not torch.equal(found[0][name], found[1][name]) for name in found[0] if name not in own)


@pytest.mark.parametrize("build", [vae, hierarchy])
def test_held_out_bits_count_the_learned_prior(build: Any) -> None:
    model = build(prior="diffusion").eval()
    torch.manual_seed(0)
    with torch.no_grad():
        found = model.validate(Batch(images(32)))
    assert 0 < found["bits_per_dim"] < 100
    assert found["kl"].dim() == 0


def test_more_steps_than_one_change_the_picture() -> None:
    model = vae(prior="diffusion").eval()
    with torch.no_grad():
        for weight in model.decoder.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
        few, many = (model.sample(Noise([1]), None, VAESampling(steps=steps)) for steps in (2, 16))
        assert torch.equal(many, model.sample(Noise([1]), None, VAESampling()))
    assert not torch.equal(few, many)


@pytest.mark.parametrize("build", [vae, hierarchy])
def test_networks_in_bf16_draw_and_judge_nearly_the_same(build: Any) -> None:
    """The prior is entered by its own methods, not through `forward`, where inputs are converted."""
    exact: Any = build(prior="diffusion").eval()
    rough: Any = build(prior="diffusion").eval()
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in exact.decoder.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    rough.load_state_dict(exact.state_dict())
    rough = for_inference(rough, device=torch.device("cpu"), precision="bf16")
    sampling = VAESampling() if build is vae else MHVAESampling()
    with torch.no_grad():
        drawn = [model.sample(Noise(range(4)), None, sampling) for model in (exact, rough)]
        bits = [model.bits_per_dim(images(), Noise(range(4))).mean().item() for model in (exact, rough)]
    assert drawn[1].dtype == torch.float32
    assert (drawn[0] - drawn[1]).abs().mean() < 0.05 < drawn[0].std()
    assert bits[1] == pytest.approx(bits[0], abs=0.1)


def test_codes_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be halved 1 times") as refused:
        DiffusionPrior((2, 3, 3), TINY)
    assert "model.diffusion.channels" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("build", "settings", "said"),
    [
        (vae, {"prior": "diffusion", "network": "residual"}, "draws maps of codes"),
        (vae, {"share": 0.5}, "what the share leaves"),
        (vae, {"widths": (16,) * 5}, "cannot be halved 5 times"),
        (hierarchy, {"share": 0.5}, "what the share leaves"),
        (hierarchy, {"prior": "diffusion", "backbone": "mlp"}, "are vectors"),
    ],
)
def test_priors_that_do_not_fit_are_refused(build: Any, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(**settings)
