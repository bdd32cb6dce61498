"""The shipped presets say what their papers and documents say, and where from."""

from __future__ import annotations

import dataclasses
import math
import re
from functools import cache
from typing import Any

import pytest
import torch
import yaml

from animegen_cli import config, paths
from animegen_cli.config import Amount, Layer, RunConfig
from animegen_cli.model import families
from animegen_cli.model.family import Batch, Classifies, DataSpec, Edit, Family, Samples
from animegen_cli.model.noise import Noise
from animegen_cli.model.schedules import Schedule

ALL = paths.presets()

WANTED = {
    *(
        f"ddpm/{name}"
        for name in ("ho2020", "ho2020-celebahq256", "ho2020-lsun256", "celeba64", "tse-hku", "tse-hku-sane")
    ),
    *(f"ddpm/{name}" for name in ("xmu2023", "xmu2023-sane", "info8010", "fast", "smoke")),
    *(f"ddim/kumari2024-{name}" for name in ("danbooru", "celebahq", "flowers")),
    *(f"ddim/{name}" for name in ("clear-diffusion-v2", "fast", "smoke")),
    *(f"vae/{name}" for name in ("xmu2023", "xmu2023-sane", "beta")),
    *(f"mhvae/info8010-{name}" for name in ("cnn", "vit", "mlp")),
    *(f"gan/{name}" for name in ("begum2025", "begum2025-256", "xmu2023", "xmu2023-sane")),
    *(f"stylegan2/{name}" for name in ("xmu2023", "xmu2023-sane", "auto", "paper256", "cifar")),
    *(f"sde/{name}" for name in ("ve", "vp", "subvp")),
    "edm/anime64",
    *(f"cyclegan/begum2025-{size}" for size in (256, 128)),
    *(f"animegan/{name}" for name in ("hayao", "paprika", "shinkai")),
}

HO = {
    "model.channels": 128, "model.blocks": 2, "model.attention": (16,), "model.head_width": None, "model.groups": 32,
    "model.layout": "ho", "model.timesteps": 1000, "model.schedule": "linear", "model.predicts": "noise",
    "model.weighting": "uniform", "model.clip": True, "sample.sampler": "ancestral", "sample.steps": 1000,
    "optim.model.name": "adam", "optim.model.betas": (0.9, 0.999), "optim.model.eps": 1e-8,
    "optim.model.weight_decay": 0.0, "optim.model.clip": 1.0, "optim.model.schedule": "constant",
    "train.ema.decay": 0.9999, "train.ema.ramp": False, "augment.flip": True,
}  # fmt: skip
HO256 = HO | {
    "size": 256, "model.multipliers": (1, 1, 2, 2, 4, 4), "model.dropout": 0.0, "sample.variance": "small",
    "optim.model.lr": 2e-5, "optim.model.warmup": "5000 steps", "train.batch": 64,
}  # fmt: skip
CELEBA = HO | {
    "size": 64, "model.multipliers": (1, 2, 2, 2, 4), "model.dropout": 0.1, "sample.variance": "large",
}  # fmt: skip
HKU = {
    "size": 128, "model.channels": 128, "model.multipliers": (1, 2, 4, 4), "model.blocks": 2, "model.attention": (32, 16),
    "model.head_width": 8, "model.groups": 32, "model.dropout": 0.0, "model.layout": "diffusers", "model.timesteps": 1000,
    "model.schedule": "linear", "model.predicts": "noise", "model.clip": True, "sample.sampler": "ancestral",
    "sample.steps": 1000, "sample.variance": "small", "optim.model.name": "adamw", "optim.model.lr": 1e-4,
    "optim.model.betas": (0.9, 0.999), "optim.model.weight_decay": 1e-2, "train.batch": 16, "train.duration": "200 epochs",
    "augment.flip": True,
}  # fmt: skip
KUMARI = {
    "size": 64, "model.widths": (32, 64, 96, 128), "model.depth": 2, "model.attention": 0, "model.noise_dims": 32,
    "model.max_frequency": 1000.0, "model.max_signal": 0.95, "model.min_signal": 0.02, "model.predicts": "noise",
    "model.loss": "mae", "model.clip": False, "sample.sampler": "ddim", "sample.steps": 20, "sample.eta": 0.0,
    "optim.model.name": "adamw", "optim.model.lr": 1e-3, "optim.model.betas": (0.9, 0.999), "optim.model.eps": 1e-7,
    "optim.model.weight_decay": 1e-4, "optim.model.clip": None, "optim.model.warmup": "0 steps", "train.batch": 64,
    "train.duration": "35 epochs", "train.ema.decay": 0.999, "train.ema.ramp": False, "train.validate.every": "1 epochs",
    "train.validate.kid_steps": 5, "augment.flip": False,
}  # fmt: skip

PAPERS: dict[str, dict[str, Any]] = {
    "ddpm/ho2020": HO | {
        "size": 32, "model.multipliers": (1, 2, 2, 2), "model.dropout": 0.1, "sample.variance": "large",
        "optim.model.lr": 2e-4, "optim.model.warmup": "5000 steps", "train.batch": 128, "train.duration": "800k steps",
    },
    "ddpm/ho2020-celebahq256": HO256 | {"train.duration": "500k steps"},
    "ddpm/ho2020-lsun256": HO256 | {"train.duration": "2.4M steps"},
    "ddpm/celeba64": CELEBA | {"optim.model.lr": 2e-4, "optim.model.warmup": "0 steps", "train.batch": 128},
    "ddpm/tse-hku": HKU | {
        "optim.model.clip": None, "optim.model.warmup": "0 steps", "optim.model.schedule": "constant", "train.ema.decay": 0.0,
    },
    "ddpm/tse-hku-sane": HKU | {
        "optim.model.clip": 1.0, "optim.model.warmup": "500 steps", "optim.model.schedule": "cosine",
        "train.ema.decay": 0.9999, "train.ema.ramp": True,
    },
    "ddpm/xmu2023": CELEBA | {"optim.model.lr": 0.005, "train.batch": 16, "optim.model.warmup": "0 steps"},
    "ddpm/xmu2023-sane": CELEBA | {"optim.model.lr": 1e-4, "train.batch": 16, "optim.model.warmup": "5000 steps"},
    "ddpm/info8010": CELEBA | {"optim.model.lr": 2e-4},
    "ddim/kumari2024-danbooru": KUMARI,
    "ddim/kumari2024-celebahq": KUMARI,
    # 35 epochs of 5 repetitions each.
    "ddim/kumari2024-flowers": KUMARI | {"train.duration": "175 epochs", "train.validate.every": "5 epochs"},
    "ddim/clear-diffusion-v2": {
        "size": 64, "model.widths": (64, 128, 256, 512), "model.attention": 2, "model.noise_dims": 64,
        "model.predicts": "velocity", "model.loss": "mse", "optim.model.lr": 2e-4, "optim.model.weight_decay": 1e-4,
        "train.batch": 64, "train.duration": "40 epochs", "train.ema.decay": 0.999,
    },
}  # fmt: skip

DCGAN = {
    "size": 64, "model.layout": "dcgan", "model.latent": 100, "model.width": 64, "model.loss": "bce", "train.batch": 64,
    "optim.G.betas": (0.5, 0.999), "optim.D.betas": (0.5, 0.999), "augment.flip": True,
}  # fmt: skip
STYLE = {
    "model.width": 512, "model.mapping_rate": 0.01, "model.path_length": 2.0, "model.path_every": 4, "model.r1_every": 16,
    "model.path_decay": 0.01, "model.path_shrink": 2, "model.mixing": 0.9, "model.ada_target": 0.6, "model.ada_every": 4,
    "model.ada_speed": 500_000, "model.w_decay": 0.995, "optim.G.betas": (0.0, 0.99), "optim.D.betas": (0.0, 0.99),
    "optim.G.eps": 1e-8, "optim.D.eps": 1e-8,
}  # fmt: skip
AUTO = STYLE | {
    "model.channel_base": 16384, "model.mapping": 2, "model.minibatch_std": 4, "train.batch": 32,
    "train.ema.half_life": "10k images", "train.ema.half_life_share": 0.05,
}  # fmt: skip
CYCLE = {
    "model.channels": 64, "model.critic_channels": 64, "model.critic_layers": 3, "model.loss": "lsgan", "model.pool": 50,
    "model.cycle_photos": 10.0, "model.cycle_anime": 10.0, "model.identity": 0.5, "train.batch": 1, "optim.G.lr": 2e-4,
    "optim.D.lr": 2e-4, "optim.G.betas": (0.5, 0.999), "optim.G.schedule": "linear-epochs",
    "optim.G.decay_from": "100 epochs", "train.duration": "200 epochs", "augment.flip": True,
}  # fmt: skip
SCORE = {
    "size": 64, "model.channels": 128, "model.multipliers": (1, 2, 2, 2), "model.blocks": 4, "model.attention": (16,),
    "model.dropout": 0.1, "model.rescale": True, "sample.steps": 1000, "optim.model.lr": 2e-4, "optim.model.clip": 1.0,
    "optim.model.warmup": "5000 steps", "train.batch": 128, "train.ema.ramp": True,
}  # fmt: skip
ANIME = {"size": 256, "model.adversarial": 300.0, "train.batch": 12, "optim.G.lr": 2e-4, "optim.D.lr": 4e-5,
         "optim.G.betas": (0.5, 0.999), "train.duration": "101 epochs", "model.init": "10 epochs"}  # fmt: skip

FAMILIES: dict[str, dict[str, Any]] = {
    "vae/xmu2023": {
        "size": 64, "model.widths": (32, 64, 128, 256, 512), "model.latent": 128, "model.likelihood": "scaled",
        "model.kl_weight": 0.00025, "train.batch": 64, "train.duration": "100 epochs", "optim.model.lr": 0.005,
        "optim.model.schedule": "exponential", "optim.model.decay": 0.95, "optim.model.weight_decay": 0.0,
    },
    "vae/xmu2023-sane": {"size": 64, "model.likelihood": "gaussian", "model.beta": 1.0, "train.batch": 64},
    "vae/beta": {"model.beta": 4.0},
    "gan/xmu2023": DCGAN | {"optim.G.lr": 0.005, "optim.D.lr": 0.005},
    "gan/xmu2023-sane": DCGAN | {"optim.G.lr": 2e-4, "optim.D.lr": 2e-4, "model.smooth": 0.9, "model.r1": 10.0},
    "gan/begum2025": DCGAN | {"optim.G.lr": 2e-4, "optim.G.schedule": "linear"},
    "gan/begum2025-256": DCGAN | {"size": 256, "train.batch": 16, "model.max_width": 512},
    "stylegan2/auto": AUTO | {"size": 64, "model.r1": 0.0256, "optim.G.lr": 0.0025, "optim.D.lr": 0.0025},
    "stylegan2/xmu2023": AUTO | {"size": 64, "model.r1": 0.0256, "optim.G.lr": 0.005, "optim.D.lr": 0.005},
    "stylegan2/xmu2023-sane": AUTO | {"size": 64, "optim.G.lr": 0.0025, "optim.D.lr": 0.0025},
    "sde/fast": {"model.process": "vp", "model.predicts": "velocity", "sample.sampler": "dpmpp", "sample.steps": 25},
    "stylegan2/paper256": STYLE | {
        "size": 256, "model.channel_base": 16384, "model.mapping": 8, "model.minibatch_std": 8, "model.r1": 1.0,
        "train.batch": 64, "train.ema.half_life": "20k images", "train.ema.half_life_share": None,
    },
    "stylegan2/cifar": STYLE | {
        "size": 32, "model.channel_base": 32768, "model.mapping": 2, "model.minibatch_std": 32, "model.r1": 0.01,
        "model.path_length": 0.0, "model.mixing": 0.0, "model.critic": "plain", "train.batch": 64,
        "train.ema.half_life": "500k images",
    },
    "sde/ve": SCORE | {
        "model.process": "ve", "model.sigma_min": 0.01, "model.sigma_max": 90.0, "model.fir": True, "model.pyramid": True,
        "model.reduce": "sum", "sample.predictor": "reverse-diffusion", "sample.corrections": 1, "sample.snr": 0.17,
        "train.ema.decay": 0.999, "model.train_eps": 1e-5, "model.sample_eps": 1e-5,
    },
    **{
        f"sde/{process}": SCORE | {
            "model.process": process, "model.beta_min": 0.1, "model.beta_max": 20.0, "model.reduce": "mean", "model.fir": False,
            "sample.predictor": "euler-maruyama", "sample.corrections": 0, "model.sample_eps": 1e-3, "train.ema.decay": 0.9999,
        }
        for process in ("vp", "subvp")
    },
    "edm/anime64": {
        "size": 64, "model.channels": 128, "model.multipliers": (1, 2, 2, 2), "model.blocks": 4, "model.attention": (16,),
        "model.p_mean": -1.2, "model.p_std": 1.2, "model.sigma_data": 0.5, "model.sigma_min": 0.002, "model.sigma_max": 80.0,
        "model.rho": 7.0, "model.dropout": 0.05, "model.augment": 0.15, "sample.sampler": "heun", "sample.steps": 40,
        "train.batch": 128, "optim.model.lr": 1e-4, "optim.model.warmup": "10M images", "train.ema.half_life": "500k images",
        "train.ema.half_life_share": 0.05,
    },
    "cyclegan/begum2025-256": CYCLE | {"size": 256, "model.blocks": 9, "augment.load": 286},
    "cyclegan/begum2025-128": CYCLE | {"size": 128, "model.blocks": 6, "augment.load": 143},
    "animegan/hayao": ANIME | {
        "model.content": 1.5, "model.style": 2.5, "model.color": 15.0, "model.smoothness": 1.0, "model.real": 1.2,
        "model.fake": 1.2, "model.gray": 1.2, "model.smooth": 0.8,
    },
    "animegan/paprika": ANIME | {
        "model.content": 2.0, "model.style": 0.6, "model.color": 50.0, "model.smoothness": 0.1, "model.real": 1.0,
        "model.fake": 1.0, "model.gray": 1.0, "model.smooth": 0.005,
    },
    "animegan/shinkai": ANIME | {
        "model.content": 1.2, "model.style": 2.0, "model.color": 10.0, "model.smoothness": 1.0, "model.real": 1.7,
        "model.fake": 1.7, "model.gray": 1.7, "model.smooth": 1.0,
    },
    "mhvae/info8010-cnn": {
        "size": 64, "optim.model.lr": 2e-4, "optim.model.betas": (0.9, 0.9), "optim.model.weight_decay": 0.01,
        "optim.model.clip": 200.0, "optim.model.skip": 400.0, "train.batch": 32, "train.duration": "200 epochs",
        "train.ema.decay": 0.999,
    },
    "mhvae/info8010-vit": {
        "size": 64, "optim.model.lr": 3e-4, "optim.model.betas": (0.9, 0.95), "optim.model.weight_decay": 0.05,
        "optim.model.clip": 1.0, "train.batch": 128, "train.duration": "300 epochs", "train.ema.decay": 0.999,
        "model.free_bits": 0.25,
    },
    "mhvae/info8010-mlp": {
        "size": 64, "optim.model.lr": 1e-3, "optim.model.weight_decay": 1e-4, "train.batch": 256,
        "train.duration": "200 epochs", "train.ema.decay": 0.999,
    },
}  # fmt: skip
"""The numbers of the documents and of the papers that they follow, for the families of one file each."""

PARAMETERS = {
    "vae/xmu2023": 3_937_635,
    "gan/xmu2023": 3_576_704 + 2_765_568,
    "stylegan2/auto": 22_243_608 + 23_407_361,
    "cyclegan/begum2025-256": 2 * (11_378_179 + 2_764_737),
    "cyclegan/begum2025-128": 2 * (7_837_699 + 2_764_737),
    "ddpm/ho2020": 35_746_307,
    "ddpm/ho2020-celebahq256": 113_673_219,
    "ddpm/ho2020-lsun256": 113_673_219,
    "ddpm/celeba64": 78_700_803,
    "ddpm/xmu2023": 78_700_803,
    "ddpm/xmu2023-sane": 78_700_803,
    "ddpm/info8010": 78_700_803,
    "ddpm/tse-hku": 106_380_035,
    "ddpm/tse-hku-sane": 106_380_035,
    "ddim/kumari2024-danbooru": 1_950_627,
    "ddim/kumari2024-celebahq": 1_950_627,
    "ddim/kumari2024-flowers": 1_950_627,
}

SANE_TWINS = {
    "ddpm/tse-hku": "ddpm/tse-hku-sane",
    **{f"{family}/xmu2023": f"{family}/xmu2023-sane" for family in ("ddpm", "gan", "stylegan2")},
}
SAME_MODEL = ("ddpm/tse-hku", "ddpm/xmu2023", "stylegan2/xmu2023")
"""Twins that differ in how they train alone; the sane GAN has other losses too (document 003 gives none)."""


@cache
def resolved(name: str) -> RunConfig:
    family, preset = name.split("/")
    kind = families.load(family)
    layers = [Layer.from_yaml(paths.preset_file(family, preset)), Layer({"family": family, "preset": preset}, {})]
    return config.resolve(layers, family=family, model=kind.Config, sample=kind.Sampling, optimizers=kind.optimizers)


def build(name: str, size: int | None = None, attributes: dict[str, tuple[str, ...]] | None = None) -> Family:
    """The preset's networks without memory or numbers."""
    settings = resolved(name)
    spec = DataSpec(size or settings.size or 64, 1000, attributes=attributes or {})
    with torch.device("meta"):
        return families.load(settings.family)(settings.model, spec)


def value_at(settings: RunConfig, path: str) -> Any:
    found: Any = settings
    for part in path.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    return found


def test_every_promised_preset_is_there() -> None:
    assert set(ALL) >= WANTED


@pytest.mark.parametrize("name", ALL)
def test_resolves_and_survives_a_round_trip(name: str) -> None:
    settings = resolved(name)
    kind = families.load(settings.family)
    assert settings.about
    assert "\n" not in settings.about
    again = config.resolve(
        [Layer(settings.to_dict(), {})],
        family=settings.family, model=kind.Config, sample=kind.Sampling, optimizers=kind.optimizers,
    )  # fmt: skip
    assert again == settings


@pytest.mark.parametrize(
    ("name", "path", "value"), [(n, p, v) for n, table in (PAPERS | FAMILIES).items() for p, v in table.items()]
)
def test_values_are_the_papers(name: str, path: str, value: Any) -> None:
    assert value_at(resolved(name), path) == value


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_parameter_counts(name: str, count: int) -> None:
    assert sum(parameter.numel() for parameter in build(name).parameters()) == count


def test_training_lengths_in_images() -> None:
    lengths = {name: Amount.parse(resolved(name).train.duration) for name in PAPERS}
    assert lengths["ddpm/ho2020"].images(batch=128, count=50_000) == 102_400_000
    assert lengths["ddpm/ho2020-celebahq256"].images(batch=64, count=30_000) == 32_000_000
    assert lengths["ddpm/tse-hku"].images(batch=16, count=63_632) == 12_726_400
    assert lengths["ddim/kumari2024-flowers"].images(batch=64, count=6_500) == 5 * 35 * 6_500


def test_log_snr_of_clear_diffusion() -> None:
    schedule = build("ddim/clear-diffusion-v2").schedule
    assert isinstance(schedule, Schedule)
    ends = [-2 * math.log(sigma) for sigma in (schedule.sigma_min, schedule.sigma_max)]
    assert ends == pytest.approx([3.0, -10.0], abs=0.02)


@pytest.mark.parametrize("name", [name for name in ALL if name.endswith("/smoke")])
def test_smoke_presets_train_and_draw(name: str) -> None:
    settings = resolved(name)
    torch.manual_seed(0)
    data = DataSpec(16, 100, attributes={"hair": ("pink", "blue")}, domains=("anime", "photos"))
    model = families.load(settings.family)(settings.model, data)
    phase = model.phases()[0]
    images = torch.linspace(-1, 1, 4 * 3 * 16 * 16).view(4, 3, 16, 16)
    batch = Batch(images, photos=images.flip(3), labels=torch.tensor([[0], [1], [-1], [0]]))
    next(iter(phase.loss(batch).values())).backward()
    gradients = [p.grad for module in phase.trains for p in module.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    with torch.no_grad():
        model.eval()
        if isinstance(model, Classifies):
            (logits,) = model.classify(model.embed(images[:2])).values()  # type: ignore[operator]
            assert logits.shape == (2, 2)
            assert not torch.equal(logits[0], logits[1])
        else:
            if isinstance(model, Samples):
                drawn = model.sample(Noise([1, 2]), torch.tensor([[0], [1]]), settings.sample)
            else:
                drawn = model.translate(images[:2], Noise([1, 2]), Edit(), settings.sample)  # type: ignore[operator]
            assert drawn.shape == (2, 3, 16, 16)
            assert drawn.abs().max() <= 1
            assert drawn.std() > 0.01
    assert sum(p.numel() for p in model.parameters()) < 1_000_000
    assert Amount.parse(settings.train.duration).images(batch=settings.train.batch, count=100) <= 4000


@pytest.mark.parametrize("name", [name for name in ALL if name.split("/")[1] in ("fast", "smoke")])
@pytest.mark.parametrize("size", [32, 40, 64, 72, 96, 128])
def test_general_presets_take_any_size(name: str, size: int) -> None:
    assert resolved(name).size is None
    assert sum(p.numel() for p in build(name, size, {"hair": ("pink", "blue"), "eyes": ("red",)}).parameters()) > 0


def test_document_003_is_its_authors() -> None:
    """Haodong Song, Huidong Feng, Yuntao Jin, Yuxin Lin, Wangzheng Shi."""
    for name in ("stylegan2/xmu2023", "stylegan2/xmu2023-sane"):
        text = paths.preset_file(*name.split("/")).read_text(encoding="utf-8")
        assert "Song, Feng, Jin, Lin & Shi 2023" in text
        assert "Xu et al." not in text


def test_papers_fix_their_size() -> None:
    assert all(resolved(name).size for name in PAPERS)


@pytest.mark.parametrize("name", ALL)
def test_only_known_failures_warn_and_name_the_preset_that_works(name: str) -> None:
    warning = resolved(name).warning
    if name not in SANE_TWINS:
        assert warning is None
        return
    faithful, sane = resolved(name), resolved(SANE_TWINS[name])
    assert warning is not None
    assert f"`{SANE_TWINS[name]}`" in warning
    assert (sane.size, sane.train.batch) == (faithful.size, faithful.train.batch)
    if name in SAME_MODEL:
        assert (sane.model, sane.sample) == (faithful.model, faithful.sample)
    assert sane.optim != faithful.optim


@pytest.mark.parametrize("name", ALL)
def test_every_value_has_its_source_on_its_line(name: str) -> None:
    text = paths.preset_file(*name.split("/")).read_text(encoding="utf-8")
    lines = text.splitlines()
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    values = [pair for pair in leaves(node) if pair[0] not in ("about", "warning")]
    used = [value.start_mark.line for _, value in values]
    assert len(values) >= 5
    assert len(used) == len(set(used)), "two values on one line"
    for key, value in values:
        assert value.end_mark.line == value.start_mark.line
        comment = re.fullmatch(r"\s+# (.{8,})", lines[value.start_mark.line][value.end_mark.column :])
        assert comment, f"{name}:{value.start_mark.line + 1}: `{key}` has no source"
        assert not re.search(r"\b[RS]\d+\b", comment[1]), f"{name}: `{key}` cites by a private number"


def leaves(node: Any) -> list[tuple[str, Any]]:
    found = []
    for key, value in node.value:
        if isinstance(value, yaml.MappingNode):
            assert not value.flow_style, (
                f"line {value.start_mark.line + 1}: a mapping in braces has room for one source only"
            )
            found += leaves(value)
        else:
            found.append((key.value, value))
    return found


@pytest.mark.parametrize("name", sorted(PAPERS))
def test_papers_state_every_setting_of_their_model(name: str) -> None:
    """A default of ours that changes later must not change a paper."""
    family, preset = name.split("/")
    said = yaml.safe_load(paths.preset_file(family, preset).read_text(encoding="utf-8"))
    kind: Any = families.load(family).Config
    settings = {f.name for f in dataclasses.fields(kind)}
    idle = {"snr_gamma", "label_drop"}  # of no effect with uniform weighting and without labels
    assert settings - set(said["model"]) <= idle
    assert {"lr", "betas", "eps", "weight_decay", "clip", "warmup", "schedule", "name"} == set(said["optim"]["model"])
    assert {"batch", "duration", "ema"} <= set(said["train"])
