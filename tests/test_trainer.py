"""The loop's parts against numbers worked by hand, and the facts about PyTorch that it stands on."""

from __future__ import annotations

import copy
import math
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from torch import Tensor, nn

from animegen_cli.config import Amount, Ema, Optim, RunConfig, Sampling, Section, Train
from animegen_cli.data.loading import RawBatch
from animegen_cli.errors import ConfigError, DivergedError, StoppedError
from animegen_cli.model import checkpoint
from animegen_cli.model.family import Batch, DataSpec, Family, Losses, Phase
from animegen_cli.ranks import ALONE, Ranks
from animegen_cli.train import optim
from animegen_cli.train.ema import EMA
from animegen_cli.train.muon import orthogonalized
from animegen_cli.train.options import ResolvedOptions
from animegen_cli.train.parts import TreeSum
from animegen_cli.train.signals import STOPPING, stop_signals
from animegen_cli.train.trainer import Hook, Trainer

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


class Ones:
    """Batches of gray images, each as bright as its position."""

    def batch(self, images_seen: int, count: int | None = None) -> RawBatch:
        assert count is not None
        levels = (torch.arange(images_seen, images_seen + count) * 17 % 256).to(torch.uint8)
        return RawBatch(levels.view(-1, 1, 1, 1).expand(-1, 3, 4, 4), torch.empty(count, 0, dtype=torch.int64))


class Plain(Family):
    """Fits 1x1 convolutions to the negative of what they see; no noise anywhere."""

    Config = Section
    Sampling = Sampling
    inference = ("net",)

    def __init__(self, data: DataSpec, net: nn.Module | None = None) -> None:
        super().__init__(Section(), data)
        self.net = net or nn.Sequential(nn.Conv2d(3, 8, 1), nn.SiLU(), nn.Conv2d(8, 3, 1))
        self.critic = nn.Conv2d(3, 1, 1)
        self.break_at = 10**9

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("model", (self.net,), self.loss),)

    def loss(self, batch: Batch) -> Losses:
        scale = float("nan") if batch.images_seen >= self.break_at else 1.0
        error = (self.net(batch.images) + batch.images).square().mean() * scale
        return {"error": error, "level": batch.images.mean()}


class Alternating(Plain):
    """Two networks in turn, the second every other step."""

    optimizers = ("G", "D")

    def phases(self) -> tuple[Phase, ...]:
        return (
            Phase("G", (self.net,), lambda batch: {"loss": self.critic(self.net(batch.images)).mean()}),
            Phase("D", (self.critic,), lambda batch: {"loss": self.critic(batch.images).square().mean()}, every=2),
        )


def trainer(
    model: Family, *, parts: int = 1, channels_last: bool = False, batch: int = 8, sections: dict[str, Optim] | None = None,
    ranks: Ranks = ALONE, **settings: Any,
) -> Trainer:  # fmt: skip
    settings = {"duration": "80 images", "ema": Ema(decay=0.5, ramp=False)} | settings
    config = RunConfig(
        family="plain", preset=None, about="", warning=None, size=None, data=None, model=None, sample=None,
        optim=sections or {"model": Optim(lr=0.01)}, train=Train(batch=batch, **settings), augment=None,  # type: ignore[arg-type]
    )  # fmt: skip
    options = ResolvedOptions(precision="fp32", parts=parts, channels_last=channels_last, compile=False)
    return Trainer(model, Ones(), config, options, device=CPU, count=100, ranks=ranks)


def plain(net: nn.Module | None = None) -> Plain:
    torch.manual_seed(1)
    return Plain(DataSpec(size=4, count=100), net)


def norm_of(model: nn.Module) -> nn.BatchNorm2d:
    """The one layer of a `plain(nn.BatchNorm2d(...))`."""
    assert isinstance(model.net, nn.BatchNorm2d)
    return model.net


def first_of(model: nn.Module) -> nn.Conv2d:
    """The first layer of a `plain()`."""
    assert isinstance(model.net, nn.Sequential)
    assert isinstance(model.net[0], nn.Conv2d)
    return model.net[0]


# ---- gradient accumulation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_parts_sum_to_the_gradient_of_the_whole(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[Tensor]] = []

    def record(optimizer: Any, parameters: list[nn.Parameter], clip: object, skip: object) -> tuple[Tensor, Tensor]:
        seen.append([p.grad.clone() for p in parameters if p.grad is not None])
        return torch.zeros(()), torch.zeros(())

    monkeypatch.setattr(optim, "guarded_step", record)
    losses = []
    for number in (1, parts):
        loop = trainer(plain(), parts=number)
        loop.train_step()
        losses.append(loop.take_losses())
    for whole, pieces in zip(*seen, strict=True):
        assert whole.abs().max() > 1e-3
        torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


class Asked(Plain):
    """Counts its forward passes, and runs out of memory in one of them: a stand-in for a device that is too small."""

    calls = 0
    fails_at = 0

    def phases(self) -> tuple[Phase, ...]:
        (phase,) = super().phases()

        def loss(batch: Batch) -> dict[str, Tensor]:
            self.calls += 1
            if self.calls == self.fails_at:
                raise torch.OutOfMemoryError
            return phase.loss(batch)

        return (replace(phase, loss=loss),)


def test_a_step_that_does_not_fit_or_is_given_up_leaves_everything_as_it_was() -> None:
    torch.manual_seed(1)
    model = Asked(DataSpec(size=4, count=100), nn.BatchNorm2d(3))
    loop = trainer(model, parts=4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.fails_at = 2
    with pytest.raises(torch.OutOfMemoryError):
        loop.train_step()
    assert not loop.train_step(lambda: model.calls == 4), "asked between the second and the third part"
    assert (loop.step, loop.images, loop.sums) == (0, 0, {})
    assert all(parameter.grad is None for parameter in model.parameters())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    asked: list[int] = []

    def within_a_layer() -> bool:
        asked.append(1)
        return len(asked) == 3  # before the first part, the family's network, and what it trains

    assert not loop.train_step(within_a_layer)
    assert loop.train_step()
    assert loop.step == 1


class Told(Ranks):
    """The first of two processes; what the other one says of itself when they meet is made up."""

    def __init__(self, *theirs: float) -> None:
        super().__init__(0, 2)
        self.theirs = theirs

    def said(self, *figures: float) -> list[float]:
        return [ours + other for ours, other in zip(figures, self.theirs, strict=True)]

    def summed(self, numbers: Tensor) -> Tensor:
        return numbers * 2


def test_what_happens_to_another_process_happens_to_all() -> None:
    """It gives the step up, runs out of memory, is asked to stop, or has ended with code 4."""
    torch.manual_seed(1)
    loop = trainer(plain(), parts=2, ranks=Told(1, 0, 0, 0))
    before = {name: tensor.clone() for name, tensor in loop.model.state_dict().items()}
    assert not loop.train_step()
    loop.ranks = Told(0, 1, 0, 0)
    with pytest.raises(torch.OutOfMemoryError):
        loop.train_step()
    loop.ranks = Told(0, 0, 0, 4)
    with pytest.raises(SystemExit) as caught:
        loop.train_step()
    assert caught.value.code == 4
    assert all(torch.equal(tensor, before[name]) for name, tensor in loop.model.state_dict().items())
    loop.ranks = Told(0, 0, 1, 0)
    saved: list[int] = []
    hook = Hook(Amount.parse("1M images"), lambda one: saved.append(one.images), at_stop=True)
    with pytest.raises(StoppedError):
        loop.run([hook], stop=lambda: False, on_step=lambda _: None)
    assert saved == [8], "the step was taken, and saved"


def test_buffers_move_once_a_step_to_the_mean_of_its_parts() -> None:
    class Ramp:
        def batch(self, images_seen: int, count: int | None = None) -> RawBatch:
            images = torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1).expand(8, 3, 4, 4) * 30
            return RawBatch(images, torch.zeros(8, 0, dtype=torch.int64))

    loop = trainer(plain(nn.BatchNorm2d(3)), parts=4)
    loop.batches = Ramp()
    loop.train_step()
    norm = norm_of(loop.model)
    assert norm.num_batches_tracked is not None
    assert int(norm.num_batches_tracked) == 1
    pixels = [value / 127.5 - 1 for value in range(0, 240, 30)]
    wanted = 0.1 * sum(pixels) / 8
    assert norm.running_mean is not None
    assert norm.running_mean.tolist() == pytest.approx([wanted] * 3, rel=1e-5)
    # each part has two images, 30 / 127.5 apart, of 16 pixels each: their unbiased variance
    variance = (15 / 127.5) ** 2 * 32 / 31
    assert norm.running_var is not None
    assert norm.running_var.tolist() == pytest.approx([0.9 + 0.1 * variance] * 3, rel=1e-5)


def test_a_tree_of_sums_has_the_same_bits_wherever_its_halves_are_added() -> None:
    torch.manual_seed(3)
    leaves = [torch.randn(50) * 10.0 ** float(torch.randint(-6, 6, ())) for _ in range(8)]

    def added(some: list[Tensor]) -> Tensor:
        tree = TreeSum()
        for leaf in some:
            tree.add([leaf.clone()])
        return tree.total()[0]

    halves = added(leaves[:4]) + added(leaves[4:])
    quarters = (added(leaves[:2]) + added(leaves[2:4])) + (added(leaves[4:6]) + added(leaves[6:]))
    assert torch.equal(added(leaves), halves)
    assert torch.equal(added(leaves), quarters)
    exact = torch.stack(leaves).double().sum(0).float()
    torch.testing.assert_close(added(leaves), exact, rtol=1e-4, atol=1e-6 * float(torch.stack(leaves).abs().max()))


def test_losses_are_means_over_the_steps_since_they_were_taken() -> None:
    loop = trainer(plain())
    for _ in range(3):
        loop.train_step()
    levels = [(position * 17 % 256) / 127.5 - 1 for position in range(24)]
    assert loop.take_losses()["model/level"] == pytest.approx(sum(levels) / 24, abs=1e-5)
    loop.train_step()
    levels = [(position * 17 % 256) / 127.5 - 1 for position in range(24, 32)]
    assert loop.take_losses()["model/level"] == pytest.approx(sum(levels) / 8, abs=1e-5)


def test_phases_train_their_own_networks_when_due() -> None:
    torch.manual_seed(0)
    model = Alternating(DataSpec(size=4, count=100))
    loop = trainer(model, sections={"G": Optim(lr=0.01), "D": Optim(lr=0.02)})
    moved = []
    for _ in range(3):
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        loop.train_step()
        changed = {
            name.split(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
        }
        moved.append(changed)
    assert moved == [{"net", "critic"}, {"net"}, {"net", "critic"}]
    assert {name: o.param_groups[0]["lr"] for name, o in loop.optimizers.items()} == {"G": 0.01, "D": 0.02}
    assert set(dict(loop.ema.model.named_children())) == {"net"}


def test_clipping_bounds_the_step_and_reports_the_norm_before() -> None:
    parameter = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    parameter.grad = torch.tensor([6.0, 8.0])
    norm, bad = optim.guarded_step(optimizer, [parameter], 1.0)
    assert (float(norm), float(bad)) == (10.0, 0.0)
    torch.testing.assert_close(parameter.detach(), torch.tensor([2.4, 3.2]))
    assert parameter.grad is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_update_that_is_not_finite_is_skipped(value: float) -> None:
    parameter = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = optim.build(Optim(), [parameter])
    parameter.grad = torch.tensor([1.0, value])
    _, bad = optim.guarded_step(optimizer, [parameter], 1.0)
    assert float(bad) == 1.0
    assert parameter.tolist() == [3.0, 4.0]
    assert not optimizer.state[parameter]


# ---- muon -----------------------------------------------------------------------------------------------------


def test_an_orthogonalized_matrix_keeps_its_directions_and_loses_its_scales() -> None:
    chance = torch.Generator().manual_seed(0)
    for rows, columns in ((8, 72), (64, 8)):
        u, s, vh = torch.linalg.svd(torch.randn(rows, columns, generator=chance), full_matrices=False)
        stretched = (u * s.square()) @ vh * 1e-3
        found = orthogonalized(stretched)
        assert found.shape == (rows, columns)
        turned = u.T @ found @ vh.T
        values = turned.diagonal()
        assert 0.5 < float(values.min()) <= float(values.max()) < 1.3, "singular values come near 1"
        torch.testing.assert_close(turned, torch.diag(values), rtol=0, atol=1e-4)


def test_muon_moves_hidden_kernels_and_leaves_stem_head_biases_and_embeddings_to_adam() -> None:
    torch.manual_seed(0)
    stem, hidden, head, table = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 3, 1), nn.Embedding(9, 16)
    network = nn.ModuleList([stem, hidden, head, table])
    settings = Optim(name="muon", lr=0.01)
    optimizer = optim.build(settings, list(network.parameters()), modules=[network])
    ours, theirs = (group["params"] for group in optimizer.param_groups)
    assert [id(p) for p in ours] == [id(hidden.weight)]
    assert len(theirs) == len(list(network.parameters())) - 1
    before = copy.deepcopy(network)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optim.guarded_step(optimizer, list(network.parameters()), None)
    moved = (hidden.weight - cast("nn.Conv2d", before[1]).weight).detach()
    # Adam's first step moves each number by the rate; Muon's are of a size with those.
    assert 0.1 < float(moved.square().mean().sqrt()) / 0.01 < 0.5
    values = torch.linalg.svdvals(moved.flatten(1))
    assert float(values.max() / values.min()) < 2, "no direction moves much further than another"
    stemmed = (stem.weight - cast("nn.Conv2d", before[0]).weight).abs()
    torch.testing.assert_close(stemmed, torch.full_like(stemmed, 0.01), rtol=1e-3, atol=0)


def test_muon_goes_on_from_a_saved_state_and_skips_what_is_not_finite() -> None:
    def made() -> tuple[nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        layer = nn.Linear(8, 8)
        return layer, optim.build(Optim(name="muon", lr=0.1), list(layer.parameters()), modules=[layer])

    def step(layer: nn.Linear, optimizer: torch.optim.Optimizer, value: float = 1.0) -> None:
        layer(torch.ones(1, 8)).square().sum().mul(value).backward()
        optim.guarded_step(optimizer, list(layer.parameters()), None)

    layer, optimizer = made()
    for _ in range(2):
        step(layer, optimizer)
    saved = {name: tensor.clone() for name, tensor in checkpoint.optimizer_tensors(optimizer).items()}
    weights = copy.deepcopy(layer.state_dict())
    step(layer, optimizer, float("nan"))
    assert all(torch.equal(tensor, weights[name]) for name, tensor in layer.state_dict().items())
    other, again = made()
    other.load_state_dict(weights)
    checkpoint.restore_optimizer(again, saved)
    for one, its in ((layer, optimizer), (other, again)):
        step(one, its)
    assert not torch.equal(layer.weight, weights["weight"])
    assert torch.equal(layer.weight, other.weight)
    assert torch.equal(layer.bias, other.bias)


def test_muon_is_refused_where_there_is_no_matrix() -> None:
    with pytest.raises(ConfigError, match="matrices"):
        optim.build(Optim(name="muon"), [nn.Parameter(torch.ones(8)), nn.Parameter(torch.ones(3, 9))])


def test_the_first_bad_step_is_named() -> None:
    model = plain()
    model.break_at = 24
    loop = trainer(model)
    for _ in range(3):
        loop.train_step()
    good = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    loop.check()
    for _ in range(3):
        loop.train_step()
    with pytest.raises(DivergedError, match="step 3"):
        loop.check()
    assert all(torch.equal(tensor, good[name]) for name, tensor in model.state_dict().items())


# ---- hooks ----------------------------------------------------------------------------------------------------


def test_hooks_come_when_due_and_at_the_end() -> None:
    calls: list[tuple[str, int]] = []
    loop = trainer(plain(), duration="75 images")
    loop.run(
        [
            Hook(Amount.parse("16 images"), lambda t: calls.append(("often", t.images))),
            Hook(Amount.parse("50 images"), lambda t: calls.append(("seldom", t.images))),
            Hook(Amount.parse("1 h"), lambda t: calls.append(("hourly", t.images))),
        ],
        stop=lambda: False,
        on_step=lambda _: None,
    )
    assert [images for name, images in calls if name == "often"] == [16, 32, 48, 64, 80]
    assert [images for name, images in calls if name == "seldom"] == [56, 80]
    assert calls[-1] == ("hourly", 80)


def test_told_to_stop_only_what_must_not_be_lost_is_done() -> None:
    from animegen_cli.errors import StoppedError

    calls = []
    loop = trainer(plain())
    hooks = [
        Hook(Amount.parse("1 h"), lambda t: calls.append("previews")),
        Hook(Amount.parse("1 h"), lambda t: calls.append("save"), at_stop=True),
    ]
    with pytest.raises(StoppedError):
        loop.run(hooks, stop=lambda: loop.step == 3, on_step=lambda _: None)
    assert (calls, loop.images) == (["save"], 24)


def test_the_first_signal_asks_to_stop_and_a_second_ctrl_c_stops_at_once() -> None:
    before = [signal.getsignal(number) for number in STOPPING]
    for number in STOPPING:
        with stop_signals() as stop:
            assert not stop()
            signal.raise_signal(number)
            assert stop()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in STOPPING] == before


# ---- the average ----------------------------------------------------------------------------------------------


def test_the_average_by_hand() -> None:
    model = plain(nn.BatchNorm2d(1, affine=True))
    ema = EMA(model, Ema(decay=0.75, ramp=False))
    weights = []
    for step, value in enumerate((5.0, 9.0, 1.0), start=1):
        norm_of(model).weight.data.fill_(value)
        ema.update(step)
        weights.append(norm_of(ema.model).weight.item())
    # from 1: 0.75 * 1 + 0.25 * 5 = 2, 0.75 * 2 + 0.25 * 9 = 3.75, 0.75 * 3.75 + 0.25 * 1 = 3.0625
    assert weights == [2.0, 3.75, 3.0625]


def test_the_ramp_by_hand() -> None:
    ema = EMA(plain(), Ema(decay=0.5, ramp=True))
    assert [ema.decay(n) for n in (0, 1, 2, 5, 8, 100)] == [0.1, 2 / 11, 0.25, 0.4, 0.5, 0.5]
    model = plain(nn.BatchNorm2d(1))
    ema = EMA(model, Ema(decay=0.9999, ramp=True))
    norm_of(model).weight.data.fill_(11.0)
    ema.update(1)
    assert norm_of(ema.model).weight.item() == pytest.approx(0.1 * 1 + 0.9 * 11)  # not stuck at the first weights


def test_half_lives_by_hand() -> None:
    ema = EMA(plain(), Ema(half_life="40 images"), batch=10, count=100)
    assert ema.decay(0) == ema.decay(1000) == pytest.approx(0.5**0.25)
    ema = EMA(plain(), Ema(half_life="40 images", half_life_share=0.5), batch=10, count=100)
    # half of the 10, 20, 80 and 1000 images seen so far, at most 40
    assert [ema.decay(n) for n in (0, 1, 7, 99)] == pytest.approx([0.25, 0.5, 0.5**0.25, 0.5**0.25])


def test_an_average_every_third_step() -> None:
    model = plain(nn.BatchNorm2d(1))
    ema = EMA(model, Ema(decay=0.5, ramp=False, every=3))
    seen = []
    for step in range(1, 7):
        norm_of(model).weight.data.fill_(float(step))
        ema.update(step)
        seen.append(norm_of(ema.model).weight.item())
    assert seen == [1, 1, 2, 2, 2, 4]


@pytest.mark.parametrize(("kind", "mean"), [("average", 2.0), ("copy", 8.0)])
def test_buffers_are_averaged_or_copied(kind: str, mean: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plain, "ema_buffers", kind)
    model = plain(nn.BatchNorm2d(1))
    ema = EMA(model, Ema(decay=0.75, ramp=False))
    trained, average = norm_of(model), norm_of(ema.model)
    assert trained.running_mean is not None
    assert average.running_mean is not None
    assert trained.num_batches_tracked is not None
    assert average.num_batches_tracked is not None
    trained.running_mean.fill_(8.0)
    trained.num_batches_tracked.fill_(7)
    ema.update(1)
    assert average.running_mean.item() == mean
    assert average.num_batches_tracked.item() == 7  # a count has no average


def test_the_distance_is_root_mean_square() -> None:
    model = plain(nn.BatchNorm2d(2))
    ema = EMA(model, Ema())
    norm_of(model).weight.data += torch.tensor([3.0, 1.0])
    norm_of(model).bias.data += torch.tensor([1.0, 1.0])
    assert float(ema.distance()) == pytest.approx(math.sqrt((9 + 1 + 1 + 1) / 4))


def test_the_average_follows_from_the_first_step_and_is_not_trained() -> None:
    model = plain()
    loop = trainer(model, ema=Ema(decay=0.9999, ramp=True))
    first = first_of(loop.ema.model).weight.clone()
    loop.train_step()
    assert not torch.equal(first_of(loop.ema.model).weight, first)
    assert not any(parameter.requires_grad for parameter in loop.ema.model.parameters())
    assert not loop.ema.model.training


# ---- the learning rate ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "table"),
    [
        (Optim(lr=8.0), {0: 8, 500: 8, 10_000: 8}),
        # ten warm-up steps of 10 images: the first already moves, the eleventh has the full rate
        (Optim(lr=11.0, warmup="100 images"), {0: 1, 10: 2, 50: 6, 90: 10, 100: 11, 700: 11}),
        (Optim(lr=8.0, schedule="linear"), {0: 8, 250: 6, 500: 4, 1000: 0, 1200: 0}),
        (Optim(lr=8.0, schedule="linear", decay_from="200 images"), {0: 8, 200: 8, 600: 4, 1000: 0}),
        (Optim(lr=8.0, schedule="cosine"), {0: 8, 500: 4, 1000: 0}),
        (Optim(lr=8.0, schedule="cosine"), {250: 8 * (2 + math.sqrt(2)) / 4, 750: 8 * (2 - math.sqrt(2)) / 4}),
        (Optim(lr=11.0, warmup="10 steps", schedule="cosine"), {0: 1, 90: 10, 100: 11, 550: 5.5, 1000: 0}),
        (Optim(lr=4.0, schedule="linear", decay_from="5 epochs"), {0: 4, 500: 4, 750: 2, 1000: 0}),
        # ten epochs, the last five of which fall by a sixth each: the eleventh would be zero
        (Optim(lr=6.0, schedule="linear-epochs", decay_from="5 epochs"), {0: 6, 499: 6, 500: 5, 599: 5, 600: 4, 990: 1}),
        (Optim(lr=8.0, schedule="exponential", decay=0.5), {0: 8, 99: 8, 100: 4, 250: 2, 300: 1}),
        (Optim(lr=8.0, schedule="step", decay=0.1, decay_from="2 epochs"), {0: 8, 199: 8, 200: 0.8, 900: 0.8}),
    ],
)  # fmt: skip
def test_the_rate_is_a_function_of_images_seen(settings: Optim, table: dict[int, float]) -> None:
    for images, rate in table.items():
        found = optim.learning_rate(settings, images, total=1000, batch=10, count=100)
        assert found == pytest.approx(rate, abs=1e-12), images


def test_the_loop_uses_that_rate() -> None:
    loop = trainer(plain(), sections={"model": Optim(lr=8.0, schedule="linear")})
    for expected in (8.0, 7.2, 6.4):
        loop.train_step()
        assert loop.optimizers["model"].param_groups[0]["lr"] == pytest.approx(expected)


def test_an_optimizer_with_lazy_phases_is_slowed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def phases(self: Plain) -> tuple[Phase, ...]:
        return (Phase("model", (self.net,), self.loss), Phase("reg", (self.net,), self.loss, every=3, shares="model"))

    monkeypatch.setattr(Plain, "phases", phases)
    loop = trainer(plain(), sections={"model": Optim(lr=8.0, betas=(0.0, 0.81))})
    loop.train_step()
    (group,) = loop.optimizers["model"].param_groups
    assert group["lr"] == pytest.approx(6.0)  # 3 / 4 of 8
    assert group["betas"] == pytest.approx((0.0, 0.81**0.75))
    updates = loop.optimizers["model"].state[loop.trained["model"][0]]["step"]
    assert updates == 2  # its own and the lazy one
    loop.train_step()
    assert updates == 3


@pytest.mark.parametrize(("skip", "moves"), [(1e-6, False), (1e6, True), (None, True)])
def test_a_step_with_a_huge_gradient_is_left_out(skip: float | None, moves: bool) -> None:
    loop = trainer(plain(), sections={"model": Optim(lr=0.01, skip=skip)})
    before = first_of(loop.model).weight.clone()
    loop.train_step()
    assert torch.equal(first_of(loop.model).weight, before) is not moves
    loop.check()  # large is not broken


# ---- states ---------------------------------------------------------------------------------------------------


def test_channels_last_is_saved_plain_and_comes_back(tmp_path: Path) -> None:
    model = plain(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1)))
    loop = trainer(model, channels_last=True)
    for _ in range(3):
        loop.train_step()
    weight = first_of(model).weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    about = {"images": loop.images, "step": loop.step, "seconds": 1.0}
    checkpoint.save_state(tmp_path / "000024", loop.state_dict(), about)
    parts, said = checkpoint.load_state(tmp_path / "000024")
    assert all(tensor.is_contiguous() for part in parts.values() for tensor in part.values())
    other = trainer(plain(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1))), channels_last=True)
    other.restore(parts, said)
    restored = first_of(other.model).weight
    assert restored.is_contiguous(memory_format=torch.channels_last)
    assert other.optimizers["model"].state[restored]["exp_avg"].is_contiguous(memory_format=torch.channels_last)
    for one in (loop, other):
        one.train_step()
    for part, tensors in loop.state_dict().items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, other.state_dict()[part][name]), (part, name)


def test_processor_time_goes_on_from_a_state_and_stays_unknown_where_it_was() -> None:
    for stored, said in ((100.0, 100.0), (None, None)):
        loop = trainer(plain())
        about = {"images": 0, "step": 0, "seconds": 5.0, "processor_seconds": stored}
        loop.restore(loop.state_dict(), about if stored else {key: about[key] for key in ("images", "step", "seconds")})
        assert loop.processor_seconds == said
        loop.run([], stop=lambda: False, on_step=lambda _: None)
        assert (loop.processor_seconds is None) == (said is None)
        assert said is None or (loop.processor_seconds or 0) > said


def test_a_state_of_other_networks_is_refused(tmp_path: Path) -> None:
    from animegen_cli.errors import DataError

    loop = trainer(plain())
    other = trainer(plain(nn.Conv2d(3, 3, 1)))
    with pytest.raises(DataError, match="other networks"):
        other.restore(loop.state_dict(), {"images": 0, "step": 0, "seconds": 0.0})


def test_a_state_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from animegen_cli.errors import MachineError

    loop = trainer(plain())
    checkpoint.save_state(tmp_path / "1", loop.state_dict(), {"images": 1})
    written = checkpoint.write_tensors

    def fill(path: Path, tensors: Any, metadata: Any = None) -> None:
        if path.stem == "ema":
            path.write_bytes(b"half of it")
            raise OSError(28, "No space left on device")
        written(path, tensors, metadata)

    monkeypatch.setattr(checkpoint, "write_tensors", fill)
    with pytest.raises(MachineError, match="the disk is full"):
        checkpoint.save_state(tmp_path / "2", loop.state_dict(), {"images": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert checkpoint.load_state(tmp_path / "1")[1]["images"] == 1


# ---- facts about PyTorch --------------------------------------------------------------------------------------


def test_compiling_a_module_in_place_keeps_its_keys() -> None:
    net = nn.Conv2d(3, 3, 1)
    keys = list(net.state_dict())
    wrapped = torch.compile(net)
    assert isinstance(wrapped, nn.Module)
    assert [key.split(".")[0] for key in wrapped.state_dict()] == ["_orig_mod"] * 2
    net.compile()
    assert list(net.state_dict()) == keys


def test_exact_phases_run_uncompiled_and_differentiate_gradients() -> None:
    """A compiled critic raises on a second derivative; the stance that the loop takes makes it eager."""
    torch._dynamo.reset()

    class Critic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Conv2d(3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x).square()

    critic = Critic()
    critic.compile(backend="aot_eager")

    def penalty() -> Tensor:
        images = torch.ones(2, 3, 4, 4, requires_grad=True)
        (gradient,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
        return gradient.square().sum()

    with pytest.raises(RuntimeError, match="double backward"):
        penalty().backward()
    loop = trainer(plain())
    phase = Phase("R1", (critic,), lambda _: {"loss": penalty()}, exact=True)
    with loop._arithmetic(phase):
        penalty().backward()
    torch._dynamo.reset()
    gradient = critic.inner.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_precision_of_exact_phases() -> None:
    loop = trainer(plain())
    loop.options = loop.options._replace(precision="bf16")
    net, x = nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 4, 4)
    phase = loop.phases[0]
    with loop._arithmetic(phase):
        assert net(x).dtype == torch.bfloat16
    with loop._arithmetic(replace(phase, exact=True)):
        assert net(x).dtype == torch.float32


def test_safetensors_refuses_what_checkpoints_make_plain(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensor = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    with pytest.raises(ValueError, match="contiguous"):
        save_file({"a": tensor}, tmp_path / "a.safetensors")
    checkpoint.save_weights(tmp_path / "b.safetensors", {"a": tensor, "same": tensor}, {})
    read, _ = checkpoint.load_weights(tmp_path / "b.safetensors")
    assert torch.equal(read["a"], tensor)
    assert torch.equal(read["same"], tensor)


def test_amounts_may_be_steps_epochs_or_images() -> None:
    section = replace(Train(), duration="3 epochs")
    assert Amount.parse(section.duration).images(batch=8, count=100) == 300
    assert Amount.parse("5 steps").images(batch=8, count=100) == 40
