"""Distances between features, against clean-fid's functions and naive references written here."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from animegen_cli.errors import DataError, UsageError
from animegen_cli.metrics import kernel, manifold
from animegen_cli.metrics.frechet import (
    Moments,
    MomentSum,
    frechet_distance,
    frechet_infinity,
    frechet_influence,
    load_moments,
    moments,
    save_moments,
)
from animegen_cli.metrics.inception_score import inception_score
from animegen_cli.metrics.kernel import kernel_distance, kernel_distance_by_batches, mmd2
from animegen_cli.metrics.manifold import manifold_scores, neighbors
from animegen_cli.metrics.protocol import Protocol, metric_name, with_current_names
from animegen_cli.metrics.scores import METRICS, Score, score_features
from animegen_cli.metrics.significance import (
    Measured,
    holm,
    like_best,
    mean_of_trainings,
    p_value,
    t_tails,
    wilson_interval,
)
from animegen_cli.metrics.uncertainty import Combined, Estimate, combine, normal_interval

clean_fid = pytest.importorskip("cleanfid.fid")


def features(n: int, d: int, seed: int, *, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    """Correlated, non-negative and of fading importance, as a network's pooled features are."""
    generator = torch.Generator().manual_seed(1000 + d)
    mixing = torch.randn(d, d, generator=generator) / d**0.5 * torch.logspace(0, -2, d)
    draws = torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * scale
    return (draws @ mixing + shift).relu()


# Fréchet


@pytest.mark.parametrize("d", [512, pytest.param(1024, marks=pytest.mark.slow)])
def test_frechet_distance_is_clean_fids(d: int) -> None:
    real, fake = features(4200, d, 1), features(4096, d, 2, shift=0.05, scale=1.1)
    theirs = clean_fid.fid_from_feats(real.double().numpy(), fake.double().numpy())
    assert frechet_distance(moments(real), moments(fake)) == pytest.approx(theirs, rel=1e-6)


def test_frechet_distance_of_axis_aligned_gaussians_is_known() -> None:
    """For diagonal covariances it is |m_1 - m_2|^2 + sum (s_1 - s_2)^2."""
    one = Moments(torch.tensor([0.0, 1.0, 2.0]).double(), torch.diag(torch.tensor([1.0, 4.0, 0.25])).double())
    other = Moments(torch.tensor([0.0, 3.0, 2.0]).double(), torch.diag(torch.tensor([9.0, 4.0, 0.0])).double())
    assert frechet_distance(one, other) == pytest.approx(4 + (2**2 + 0 + 0.5**2), rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(40, 60), (40, 4000), (4000, 40), (2, 2)])
def test_frechet_distance_with_fewer_images_than_features(n: int, m: int) -> None:
    """Tr (C_1 C_2)^(1/2) is also the nuclear norm of the centered features' product: no square root at all."""
    real, fake = features(n, 256, 3).double(), features(m, 256, 4, shift=0.1).double()
    x, y = real - real.mean(0), fake - fake.mean(0)
    overlap = torch.linalg.svdvals(x @ y.T).sum() / ((n - 1) * (m - 1)) ** 0.5
    spread = x.square().sum() / (n - 1) + y.square().sum() / (m - 1)
    expected = (real.mean(0) - fake.mean(0)).square().sum() + spread - 2 * overlap
    assert frechet_distance(moments(real), moments(fake)) == pytest.approx(expected.item(), rel=1e-6)


def test_frechet_distance_to_oneself_is_zero_and_order_does_not_matter() -> None:
    real, fake = moments(features(300, 64, 5)), moments(features(50, 64, 6, shift=0.2))
    assert frechet_distance(real, real) < 1e-9
    assert frechet_distance(real, fake) == pytest.approx(frechet_distance(fake, real), rel=1e-9)


def test_halves_need_two_images_each() -> None:
    assert np.isfinite(frechet_infinity(features(4, 8, 1), features(5, 8, 2))).all()
    with pytest.raises(DataError, match="halves of two and more, and there are 3"):
        frechet_infinity(features(40, 8, 1), features(3, 8, 2))


def test_features_that_never_vary_are_no_trouble() -> None:
    still = torch.ones(100, 8)
    assert frechet_distance(moments(still), moments(still + 2)) == pytest.approx(8 * 4)
    assert frechet_influence(moments(still), moments(still), still)[1].abs().max() == 0


def test_moments_of_a_stream_are_those_of_the_whole() -> None:
    whole = features(1000, 32, 7) * 0.01 + 1e4  # large mean, small spread: where naive sums lose digits
    stream = MomentSum()
    for part in whole.split([1, 0, 500, 3, 496]):
        stream.add(part)
    found = stream.moments()
    assert found.count == 1000
    np.testing.assert_allclose(found.mean, whole.double().mean(0), rtol=1e-13)
    np.testing.assert_allclose(found.covariance, np.cov(whole.double().numpy(), rowvar=False), atol=1e-12)


def test_one_image_has_no_covariance() -> None:
    with pytest.raises(DataError, match="at least two images"):
        moments(torch.zeros(1, 4))


def test_widths_must_fit() -> None:
    with pytest.raises(DataError, match="4 and 5 features"):
        frechet_distance(moments(torch.rand(9, 4)), moments(torch.rand(9, 5)))


def test_the_influence_of_an_image_is_what_the_distance_loses_without_it() -> None:
    real, fake = features(2000, 12, 8), features(300, 12, 9, shift=0.3, scale=1.2)
    value, influence = frechet_influence(moments(real), moments(fake), fake)
    assert value == pytest.approx(frechet_distance(moments(real), moments(fake)), rel=1e-9)
    without = [frechet_distance(moments(real), moments(torch.cat([fake[:i], fake[i + 1 :]]))) for i in range(300)]
    lost = (np.mean(without) - np.array(without)) * 299
    assert np.corrcoef(lost, influence.numpy())[0, 1] > 0.999
    assert lost.std() == pytest.approx(influence.std().item(), rel=0.03)


def test_frechet_infinity_is_nearer_the_truth_than_the_distance_of_few() -> None:
    """Two Gaussians with axes in common, whose distance is known."""
    scale = torch.logspace(0, -1.5, 96).double()
    shift = 0.3 * scale
    truth = (shift.square() + (0.2 * scale).square()).sum().item()
    errors = []
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        real = torch.randn(250, 96, generator=generator).double() * scale
        fake = torch.randn(200, 96, generator=generator).double() * scale * 1.2 + shift
        plain, (far, left) = frechet_distance(moments(real), moments(fake)), frechet_infinity(real, fake)
        assert left > 0
        of_moments = frechet_infinity(moments(real), fake)[0]
        assert of_moments < plain
        errors.append((plain - truth, far - truth))
    plain_bias, bias = np.mean(errors, 0)
    assert plain_bias > 0.5 * truth
    assert abs(bias) < 0.15 * plain_bias


def test_moments_survive_a_file(tmp_path: Path) -> None:
    found = Moments(*moments(features(100, 8, 9)).__dict__.values())
    path = tmp_path / "deep" / "stats.npz"
    save_moments(path, Moments(found.mean, found.covariance, 100, "abc"))
    again = load_moments(path)
    assert torch.equal(again.mean, found.mean)
    assert torch.equal(again.covariance, found.covariance)
    assert (again.count, again.protocol) == (100, "abc")
    assert [file.name for file in path.parent.iterdir()] == ["stats.npz"]


def test_statistics_of_other_tools_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "theirs.npz", mu=np.zeros(3, np.float32), sigma=np.eye(3))
    found = load_moments(tmp_path / "theirs.npz")
    assert found.count is None
    assert found.protocol is None
    assert found.mean.dtype == torch.float64


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": np.zeros((3, 3))}, "no file of feature statistics"),
        ({"mu": np.zeros(3), "sigma": np.eye(4)}, r"\(4, 4\)"),
        ({"mu": np.array([0.0, np.nan]), "sigma": np.eye(2)}, "not finite"),
        ({"mu": np.zeros(3), "sigma": np.array([None, None])}, "no file of feature statistics"),
    ],
)
def test_files_that_are_no_statistics(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "wrong.npz", allow_pickle=True, **arrays)
    with pytest.raises(DataError, match=message):
        load_moments(tmp_path / "wrong.npz")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04cut"])
def test_files_that_are_no_npz(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "wrong.npz").write_bytes(content)
    with pytest.raises(DataError, match="no file of feature statistics"):
        load_moments(tmp_path / "wrong.npz")


# KID


def naive_mmd2(x: np.ndarray, y: np.ndarray) -> float:
    """Written out: one kernel value at a time."""

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (float(np.dot(a, b)) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    within_x = sum(k(x[i], x[j]) for i, j in itertools.permutations(range(n), 2)) / (n * (n - 1))
    within_y = sum(k(y[i], y[j]) for i, j in itertools.permutations(range(m), 2)) / (m * (m - 1))
    return within_x + within_y - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def test_mmd2_is_the_double_loop() -> None:
    x, y = features(40, 16, 1), features(30, 16, 2, shift=0.2)
    assert mmd2(x, y).item() == pytest.approx(naive_mmd2(x.double().numpy(), y.double().numpy()), rel=1e-9)


def test_kid_of_whole_sets_is_clean_fids() -> None:
    real, fake = features(4096, 256, 1), features(4096, 256, 2, shift=0.1)
    theirs = clean_fid.kernel_distance(
        real.double().numpy(), fake.double().numpy(), num_subsets=1, max_subset_size=4096
    )
    ours = kernel_distance(real, fake, subsets=1, subset_size=4096)
    assert ours.value == pytest.approx(theirs, rel=1e-6)
    assert ours.spread == 0


def test_kid_over_subsets_agrees_with_clean_fid_within_its_scatter() -> None:
    real, fake = features(2000, 64, 1), features(1800, 64, 2, shift=0.1)
    before = np.random.get_state()
    try:
        np.random.seed(0)  # whose subsets are drawn from the generator that all share
        theirs = clean_fid.kernel_distance(real.numpy(), fake.numpy(), num_subsets=50, max_subset_size=300)
    finally:
        np.random.set_state(before)
    ours = kernel_distance(real, fake, subsets=50, subset_size=300)
    assert ours.spread > 0
    assert abs(ours.value - theirs) < 4 * ours.spread * (2 / 50) ** 0.5


def test_both_ways_to_sum_over_subsets_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = features(2300, 24, 1), features(2100, 24, 2, shift=0.1)  # more than one block of rows
    of_real = kernel._members(2300, 60, 5, 0, real.device)
    of_fake = kernel._members(2100, 60, 5, 1, fake.device)
    pairs = zip(of_real, of_fake, strict=True)
    slow = [naive_mmd2(real[i].double().numpy(), fake[j].double().numpy()) for i, j in pairs]
    for whole in (True, False):
        monkeypatch.setattr(kernel, "_is_small", lambda *_, whole=whole: whole)
        found = kernel_distance(real, fake, subsets=5, subset_size=60)
        assert found.value == pytest.approx(np.mean(slow), rel=1e-8)
        assert found.spread == pytest.approx(np.std(slow), rel=1e-6)
    known = kernel.real_part(real, len(fake), subsets=5, subset_size=60)
    again = kernel_distance(real, fake, subsets=5, subset_size=60, within_real=known)
    assert again.value == found.value


def test_kid_is_seeded_unbiased_and_sees_a_shift() -> None:
    real, same, other = features(1500, 32, 1), features(1500, 32, 2), features(1500, 32, 3, shift=0.3)
    near = kernel_distance(real, same)
    assert kernel_distance(real, same).value == near.value
    assert kernel_distance(real, same, seed=1).value != near.value
    assert abs(near.value) < 3 * near.spread
    assert kernel_distance(real, other).value > 20 * abs(near.value)


def test_kid_of_fewer_than_a_thousand_images_uses_them_all() -> None:
    real, fake = features(70, 16, 1), features(50, 16, 2)
    assert np.isfinite(kernel_distance(real, fake).value)
    with pytest.raises(DataError, match="at least two images"):
        kernel_distance(real, fake[:1])


def test_kid_by_batches_is_the_mean_over_whole_batches() -> None:
    real, fake = features(200, 16, 1), features(150, 16, 2, shift=0.2)
    parts = [(real[i : i + 64].double().numpy(), fake[i : i + 64].double().numpy()) for i in (0, 64)]
    expected = [naive_mmd2(x, y) for x, y in parts]
    found = kernel_distance_by_batches(real, fake)
    assert found.value == pytest.approx(np.mean(expected), rel=1e-8)
    assert found.spread == pytest.approx(np.std(expected), rel=1e-6)


# precision, recall, density, coverage


def naive_manifold(real: np.ndarray, fake: np.ndarray, k: int, k_density: int) -> dict[str, float]:
    """From the papers' definitions, with direct differences in float64."""

    def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.array([[np.sqrt(((a - b) ** 2).sum()) for b in y] for a in x])

    def radii(x: np.ndarray, k: int) -> np.ndarray:
        return np.array([np.sort(np.delete(row, i))[k - 1] for i, row in enumerate(distances(x, x))])

    between = distances(real, fake)
    within = between < radii(real, k_density)[:, None]
    return {
        "precision": (between <= radii(real, k)[:, None]).any(0).mean(),
        "recall": (between <= radii(fake, k)[None, :]).any(1).mean(),
        "density": within.sum() / (k_density * len(fake)),
        "coverage": within.any(1).mean(),
    }


@pytest.mark.parametrize("blocks", [(1024, 4096), (7, 11)])
@pytest.mark.parametrize("case", ["plain", "ties", "copies", "far"])
def test_manifold_scores_are_the_naive_ones(
    monkeypatch: pytest.MonkeyPatch, blocks: tuple[int, int], case: str
) -> None:
    monkeypatch.setattr(manifold, "ROWS", blocks[0])
    monkeypatch.setattr(manifold, "COLUMNS", blocks[1])
    real, fake = features(90, 16, 1), features(70, 16, 2, shift=0.05)
    if case == "ties":  # few distinct points: most distances are equal to a radius or to zero
        real, fake = (real * 2).round(), (fake * 2).round()
    if case == "copies":  # fakes that are reals: exactly on the rim of their neighbors' balls
        fake = torch.cat([real[:30], fake[:40]])
    if case == "far":
        fake = fake + 100
    expected = naive_manifold(real.double().numpy(), fake.double().numpy(), 3, 5)
    found = {name: score.mean().item() for name, score in manifold_scores(real, fake).added.items()}
    assert found == pytest.approx(expected, abs=1e-12)
    if case == "far":
        assert set(found.values()) == {0.0}


def test_manifold_scores_of_large_sets_are_those_of_scipys_distances() -> None:
    from scipy.spatial.distance import cdist

    real, fake = features(4200, 128, 1), features(4096, 128, 2, shift=0.1, scale=1.05)
    x, y = real.double().numpy(), fake.double().numpy()
    between = cdist(x, y)
    real_rim, fake_rim = (np.partition(cdist(a, a), (3, 5), axis=1)[:, [3, 5]] for a in (x, y))  # 0 is the point itself
    expected = {
        "precision": (between <= real_rim[:, :1]).any(0).mean(),
        "recall": (between <= fake_rim[:, 0]).any(1).mean(),
        "density": (between < real_rim[:, 1:]).sum() / (5 * len(y)),
        "coverage": (between.min(1) < real_rim[:, 1]).mean(),
    }
    found = {name: score.mean().item() for name, score in manifold_scores(real, fake).added.items()}
    assert 0 < expected["recall"] < 1
    assert found == pytest.approx(expected, abs=2 / 4096)  # distances in another precision may move a point over a rim


def test_identical_sets_are_precise_and_complete() -> None:
    real = features(200, 16, 1)
    found = {name: score.mean().item() for name, score in manifold_scores(real, real.clone()).added.items()}
    assert found["precision"] == found["recall"] == found["coverage"] == 1


def test_a_collapsed_generator_is_precise_but_covers_nothing() -> None:
    real = features(400, 16, 1)
    collapsed = real[:1] + 1e-3 * torch.randn(400, 16, generator=torch.Generator().manual_seed(0))
    found = {name: score.mean().item() for name, score in manifold_scores(real, collapsed).added.items()}
    assert found["precision"] == 1
    assert found["recall"] < 0.02
    assert found["coverage"] < 0.1


@pytest.mark.parametrize("blocks", [1024, 7])
def test_neighbors_and_mean_distances_are_those_of_the_whole_matrix(
    monkeypatch: pytest.MonkeyPatch, blocks: int
) -> None:
    monkeypatch.setattr(manifold, "ROWS", blocks)
    points = features(90, 16, 1).double()
    apart = (points[:, None] - points[None, :]).norm(dim=2)
    found = neighbors(points, 9)  # more than a block has rows
    np.testing.assert_allclose(found.distance, apart.sum(1) / 89, rtol=1e-9)
    np.testing.assert_allclose(found.nearest2.sqrt(), apart.sort(1).values[:, 1:10], rtol=1e-6)


def test_what_a_score_loses_without_one_image() -> None:
    """Exact for coverage; for recall with the other fakes' balls as they are."""
    real, fake = features(90, 16, 1), features(40, 16, 2, shift=0.05)
    found = manifold_scores(real, fake)
    coverage = found.added["coverage"].mean()
    for i in range(40):
        rest = manifold_scores(real, torch.cat([fake[:i], fake[i + 1 :]])).added["coverage"].mean()
        assert found.lost["coverage"][i].item() == pytest.approx((coverage - rest).item(), abs=1e-12)
    assert 0 < found.lost["recall"].sum() <= found.added["recall"].mean()


def test_too_few_images_for_neighbors() -> None:
    with pytest.raises(DataError, match="more than 5 images, there are 5"):
        manifold_scores(torch.rand(5, 4), torch.rand(50, 4))


@pytest.mark.slow
def test_memory_stays_bounded() -> None:
    """Ten thousand against ten thousand: one whole distance matrix alone would be 800 MB."""
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("the peak of this process alone is read from /proc")
    # not getrusage, whose peak a process takes over from the one that started it
    code = (
        "from pathlib import Path; import torch; from animegen_cli.metrics.manifold import manifold_scores\n"
        "def peak():\n"
        "    lines = Path('/proc/self/status').read_text().splitlines()\n"
        "    return next(int(line.split()[1]) for line in lines if line.startswith('VmHWM:')) / 1024\n"
        "torch.set_num_threads(2); x, y = torch.rand(2, 10_000, 32); before = peak()\n"
        "manifold_scores(x, y); print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 10 < float(done.stdout) < 600


# Inception score


def test_inception_score_is_the_definition() -> None:
    logits = torch.randn(60, 7, generator=torch.Generator().manual_seed(0)) * 3
    p = torch.softmax(logits.double(), 1).numpy()
    marginal = p.mean(0)
    divergence = [sum(q * np.log(q / r) for q, r in zip(row, marginal, strict=True)) for row in p]
    value, spread, influence = inception_score(logits, splits=1)
    assert value == pytest.approx(np.exp(np.mean(divergence)), rel=1e-9)
    assert spread == 0
    np.testing.assert_allclose(influence, value * (divergence - np.mean(divergence)), atol=1e-9)


def test_inception_score_spans_one_to_the_number_of_classes() -> None:
    sure = torch.eye(10).repeat(100, 1) * 100
    assert inception_score(sure, splits=1)[0] == pytest.approx(10, rel=1e-9)
    assert inception_score(torch.zeros(100, 10))[0] == pytest.approx(1, rel=1e-9)
    with pytest.raises(DataError, match="at least two images"):
        inception_score(torch.zeros(1, 10))


# protocol and names


def protocol(**changes: object) -> Protocol:
    values: dict[str, object] = {
        "metric": "fd",
        "extractor": "inception",
        "extractor_sha": "f58cb9b6",
        "resize": "clean-299",
        "reference": "0123abcd",
        "reference_split": "train",
        "n_real": 17_400,
        "n_fake": 10_000,
        "size": 64,
        "precision": "fp32",
        "seeds": "0-9999",
        "sampling": "ddim, 50 steps",
    }
    return Protocol(**{**values, **changes})  # type: ignore[arg-type]


def test_only_what_makes_numbers_comparable_is_in_the_id() -> None:
    assert protocol().id == protocol(seeds="5-10004", sampling="heun, 18 steps").id
    for change in (
        {"n_fake": 9_999},
        {"n_real": 2},
        {"precision": "bf16"},
        {"resize": "legacy_pytorch-299"},
        {"extractor_sha": "6726825d"},
        {"reference_split": "test"},
        {"reference": "ffff"},
        {"size": 32},
        {"metric": "kid"},
    ):
        assert protocol(**change).id != protocol().id
        assert list(protocol(**change).differences(protocol())) == list(change)


def test_the_id_is_stable_across_processes_and_files() -> None:
    assert protocol().id == protocol().id == "86c46c322acd"
    stored = json.loads(json.dumps(protocol().to_dict()))
    assert Protocol.from_dict(stored) == protocol()


@pytest.mark.parametrize("change", [{"n_fake": 50_000}, {"color": "blue"}, {"n_real": None}])
def test_a_protocol_that_was_edited_is_refused(change: dict[str, object]) -> None:
    stored = {**protocol().to_dict(), **change}
    with pytest.raises(DataError, match="cannot be trusted"):
        Protocol.from_dict(stored)
    with pytest.raises(DataError, match="incomplete"):
        Protocol.from_dict({"metric": "fd"})


def stored_score(measured: Protocol, **changes: object) -> dict[str, object]:
    """A score as eval.json holds it."""
    return {
        "name": measured.name, "value": 0.1, "protocol": measured.to_dict() | {"reference_name": "faces"},
        "protocol_id": measured.id, "images": 64, **changes,
    }  # fmt: skip


def test_old_names_of_metrics_become_todays_with_todays_ids() -> None:
    old, new = (protocol(metric=metric, extractor="", resize="area-32") for metric in ("hair-colour", "hair-color"))
    histogram = {"name": "hair colour", "by": "pixels", "values": ["black"]}
    others = {"drawing": None, "sheets": {"neighbours": "judged/neighbours.png"}}
    found = with_current_names({"scores": [stored_score(old)], "histograms": [histogram], **others})
    assert found == {"scores": [stored_score(new)], "histograms": [histogram | {"name": "hair color"}], **others}
    assert with_current_names(found) == found


def test_scores_that_do_not_fit_their_old_names_are_left_to_be_refused() -> None:
    old = protocol(metric="hair-colour", extractor="", resize="area-32")
    wrong: list[object] = [
        stored_score(old, protocol_id="0" * 12), stored_score(old, name="eyes-colour"), stored_score(old, protocol=3),
        {**stored_score(old), "protocol": {"metric": "hair-colour"}}, "no score",
    ]  # fmt: skip
    other = {"name": "hair colour", "by": "a classifier"}
    found = with_current_names({"scores": wrong, "histograms": [other, 3]})
    assert found == {"scores": wrong, "histograms": [other, 3]}
    assert with_current_names({"scores": 3}) == {"scores": 3}


@pytest.mark.parametrize(
    ("metric", "extractor", "resize", "name"),
    [
        ("fd", "inception", "clean-299", "fid"),
        ("kid", "inception", "clean-299", "kid"),
        ("is", "inception", "clean-299", "is"),
        ("fd", "inception", "legacy_pytorch-299", "fid-legacy_pytorch"),
        ("is", "inception", "legacy_tensorflow-299", "is-legacy_tensorflow"),
        ("precision", "inception", "clean-299", "precision-inception"),
        ("fd", "faces", "own", "fd-faces"),
        ("kid", "squeezenet", "clean-224", "kid-squeezenet"),
        ("coverage", "faces", "own", "coverage-faces"),
        ("fd-infinity", "inception", "clean-299", "fid-infinity"),
        ("fd-infinity", "faces", "own", "fd-infinity-faces"),
        ("kid75", "inception", "bilinear-75", "kid75"),
        ("kid75", "faces", "own", "kid75-faces"),
    ],
)
def test_names_say_the_network(metric: str, extractor: str, resize: str, name: str) -> None:
    assert metric_name(metric, extractor, resize) == name
    assert protocol(metric=metric, extractor=extractor, resize=resize).name == name


def test_there_is_no_inception_score_without_inception() -> None:
    with pytest.raises(UsageError, match="needs Inception"):
        metric_name("is", "faces")


# scores


def test_scores_come_in_order_with_uncertainty_and_warnings() -> None:
    real, fake = features(300, 16, 1), features(280, 16, 2, shift=0.05)
    logits = torch.randn(280, 12, generator=torch.Generator().manual_seed(0))
    found = score_features(real, fake, METRICS, logits=logits)
    assert [score.name for score in found] == list(METRICS)
    by_name = {score.name: score for score in found}
    assert by_name["fd"].value == pytest.approx(
        clean_fid.fid_from_feats(real.double().numpy(), fake.double().numpy()), rel=1e-6
    )
    for score in found:
        assert score.std is not None
        assert score.std > 0
        assert any("fewer than 2,048" in note for note in score.notes)
        assert score.interval is not None
        assert score.interval[0] <= score.value <= score.interval[1]
        assert score.values == (score.value,)
    assert by_name["kid"].spread == kernel_distance(real, fake).spread
    apart = (fake.double()[:, None] - fake.double()[None, :]).norm(dim=2).sum() / (280 * 279)
    of_real = (real.double()[:, None] - real.double()[None, :]).norm(dim=2).sum() / (300 * 299)
    assert by_name["diversity"].value == pytest.approx((apart / of_real).item(), rel=1e-9)
    assert any("biased up" in note for note in by_name["fd"].notes)
    assert any("ImageNet" in note for note in by_name["is"].notes)


def test_enough_images_bring_no_warning() -> None:
    for score in score_features(features(2048, 8, 1), features(2048, 8, 2), ("fd", "precision", "kid")):
        assert score.notes == ()


def test_the_interval_of_precision_holds_the_truth() -> None:
    """Half of the fakes are copies of reals, half are far away."""
    real = features(600, 16, 1)
    fake = torch.cat([real[:300], features(300, 16, 2) + 50])
    (score,) = score_features(real, fake, ["precision"])
    assert score.value == pytest.approx(0.5)
    assert score.std == pytest.approx((0.25 / 600) ** 0.5, rel=0.01)


def error_of(found: Score | Combined) -> float:
    assert found.std is not None
    return found.std


def interval_of(found: Score | Combined) -> tuple[float, float]:
    assert found.interval is not None
    return found.interval


def spread_over_draws(metric: str, real: Tensor, draws: list[Tensor]) -> tuple[float, float]:
    """Deviation of a score between independent sets of fakes, and the standard error that one set gives (its mean)."""
    found = [score_features(real, draw, [metric])[0] for draw in draws]
    return float(np.std([score.value for score in found])), float(np.mean([error_of(score) for score in found]))


@pytest.mark.parametrize("metric", ["fd", "kid", "precision", "recall", "density", "coverage", "diversity"])
def test_a_standard_error_is_what_repeated_draws_show(metric: str) -> None:
    real = features(500, 12, 8)
    seen, claimed = spread_over_draws(metric, real, [features(400, 12, 100 + i, scale=1.2) for i in range(40)])
    assert 0.75 * seen < claimed < 1.5 * seen


@pytest.mark.parametrize("metric", ["fd", "kid"])
def test_the_interval_is_as_wide_as_that_of_a_real_bootstrap(metric: str) -> None:
    """Whole sets resampled and scored again; ours is moved towards the longer tail besides, as a percentile's is not."""
    real, fake = features(600, 8, 1), features(250, 8, 2, shift=0.3, scale=1.2)
    (score,) = score_features(real, fake, [metric])
    assert score.interval is not None
    of_real, generator, values = moments(real), torch.Generator().manual_seed(0), []
    for _ in range(200):
        again = fake[torch.randint(250, (250,), generator=generator)]
        values.append(frechet_distance(of_real, moments(again)) if metric == "fd" else mmd2(real, again).item())
    low, high = np.quantile(values, [0.025, 0.975])
    assert score.interval[1] - score.interval[0] == pytest.approx(high - low, rel=0.2)
    assert score.interval[0] < score.value < score.interval[1]


def test_several_ranges_make_one_number() -> None:
    real = features(500, 12, 8)
    ranges = [features(300, 12, 20 + i, shift=0.1) for i in range(3)]
    alone = [score_features(real, fake, ["fd", "kid"]) for fake in ranges]
    together = score_features(real, ranges, ["fd", "kid"])
    for number, score in enumerate(together):
        assert score.values == tuple(one[number].value for one in alone)
        assert score.value == pytest.approx(np.mean(score.values))
        within, between = np.mean([error_of(one[number]) ** 2 for one in alone]), np.var(score.values, ddof=1)
        assert score.std == pytest.approx((max(within, between) / 3) ** 0.5)
        low, high = interval_of(score)
        assert low < score.value < high


def test_ranges_that_differ_more_than_their_images_explain_widen_the_interval() -> None:
    calm = [Estimate(value, torch.linspace(-1, 1, 400)) for value in (5.0, 5.01, 4.99)]
    wild = [Estimate(value, torch.linspace(-1, 1, 400)) for value in (4.0, 5.0, 6.0)]
    near, far = combine(calm), combine(wild)
    assert near.std == pytest.approx((torch.linspace(-1, 1, 400).var().item() / 400 / 3) ** 0.5)
    assert far.std == pytest.approx(3**-0.5)
    for found in (near, far):
        error = error_of(found)
        assert interval_of(found) == pytest.approx(
            (found.value - 1.96 * error, found.value + 1.96 * error), abs=0.2 * error
        )
    assert combine([Estimate(5.0, torch.zeros(1))]) == (5.0, None, None)


def test_a_normal_interval_ends_where_the_score_does() -> None:
    assert normal_interval(0.5, 0.1) == pytest.approx((0.304, 0.696))
    assert normal_interval(0.1, 0.1, low=0.0, high=1.0) == pytest.approx((0, 0.296))
    assert normal_interval(0.95, 0.1, low=0.0, high=1.0) == pytest.approx((0.754, 1))


@pytest.mark.parametrize(("found", "count"), [(0, 40), (3, 40), (81, 263), (40, 40)])
def test_the_interval_of_a_share_is_scipys(found: int, count: int) -> None:
    from scipy.stats import binomtest

    theirs = binomtest(found, count).proportion_ci(method="wilson")
    assert wilson_interval(found / count, count) == pytest.approx((theirs.low, theirs.high), abs=1e-4)


def test_a_share_of_all_is_not_certain() -> None:
    real = features(300, 16, 1)
    (score,) = score_features(real, real[:40].clone(), ["precision"])
    assert score.value == 1
    assert score.std == pytest.approx((42 / 44 * 2 / 44 / 44) ** 0.5)
    low, high = interval_of(score)
    assert low < 0.95
    assert high == 1


def test_diversity_knows_a_collapse() -> None:
    real, same = features(400, 16, 1), features(400, 16, 2)
    alike, collapsed = (score_features(real, fake, ["diversity"])[0] for fake in (same, same[:1] + 0.05 * same))
    low, high = interval_of(alike)
    assert low < 1 < high
    assert collapsed.value < 0.1


# significance


def test_p_values_are_scipys() -> None:
    from scipy.special import ndtr

    one, other = Measured(12.0, 0.3), Measured(13.0, 0.4)
    assert p_value(one, other) == pytest.approx(2 * ndtr(-2), rel=1e-9)
    assert p_value(other, one) == p_value(one, other)
    assert p_value(Measured(1.0, 0.0), Measured(1.0, 0.0)) == 1
    assert p_value(Measured(1.0, 0.0), Measured(2.0, 0.0)) == 0


@pytest.mark.parametrize(
    ("t", "freedom"), [(0.0, 1.0), (0.3, 1.0), (12.0, 1.7), (2.0, 2.0), (4.3, 3.4), (50.0, 8.0), (2.5, 900.0)]
)
def test_tails_of_students_t_are_scipys(t: float, freedom: float) -> None:
    from scipy import stats

    assert t_tails(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-9)


def test_means_of_trainings_are_told_apart_as_welch_does() -> None:
    from scipy import stats

    first, second = [33.1, 35.0, 32.2], [40.9, 38.0, 44.5, 39.1]
    one, other = (mean_of_trainings(values, [None] * len(values)) for values in (first, second))
    found = p_value(*(Measured(mean.value, mean.std, mean.freedom) for mean in (one, other)))
    assert found == pytest.approx(stats.ttest_ind(first, second, equal_var=False).pvalue, rel=1e-9)


def test_a_mean_of_trainings_has_the_larger_of_the_errors_between_and_within_them() -> None:
    apart = mean_of_trainings([10.0, 12.0, 14.0], [0.1, 0.1, None])
    assert apart.value == 12.0
    assert apart.std == pytest.approx(2 / 3**0.5)
    assert apart.interval == pytest.approx((12 - 4.3027 * 2 / 3**0.5, 12 + 4.3027 * 2 / 3**0.5), rel=1e-4)
    alike = mean_of_trainings([0.98, 0.98, 0.98], [0.03, 0.03, 0.03], (0.0, 1.0))
    assert alike.std == pytest.approx(0.03 / 3**0.5)
    assert alike.interval is not None
    assert alike.interval[1] == 1.0, "no share is above 1"
    assert mean_of_trainings([5.0, 5.0], [None, None]) == (5.0, None, None, None)
    assert mean_of_trainings([0.1, 0.1, 0.1], [None] * 3).std is None, "what rounding adds is no deviation"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # t of 1, 2 and 4 degrees of freedom: 12.706, 4.303, 2.776; s of 1 and 3 is sqrt(2), of 1, 2, 3 it is 1
        ((1.0, 3.0), (2 - 12.706, 2 + 12.706)),
        ((1.0, 2.0, 3.0), (2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5)),
        ((1.0, 2.0, 3.0, 4.0, 5.0), (3 - 2.776 * 0.5**0.5, 3 + 2.776 * 0.5**0.5)),
    ],
)
def test_the_interval_of_a_few_trainings_is_students_of_the_textbook(
    values: tuple[float, ...], expected: tuple[float, float]
) -> None:
    for errors in ([None] * len(values), [0.5] * len(values)):
        mean = mean_of_trainings(values, errors)
        assert mean.interval == pytest.approx(expected, rel=1e-3)
        assert mean.freedom == len(values) - 1
    # errors within that are a little above the deviation between do not make it narrower
    wider = mean_of_trainings(values, [2.0] * len(values))
    assert wider.interval is not None
    assert wider.interval[0] <= expected[0] * (1 - 1e-3) + 1e-3
    assert wider.interval[1] >= expected[1] * (1 - 1e-3)


def test_the_interval_of_a_share_over_trainings_stays_inside_its_limits_without_being_cut() -> None:
    low, high = mean_of_trainings([0.004, 0.010, 0.016], [0.002] * 3, (0.0, 1.0), 1000).interval or (0, 0)
    # by hand: variance 0.006^2 / 3, so 0.011952 * 0.988048 / 1.2e-5 = 984.1 independent images, t^2 = 18.513; the center is
    # (0.01 + 18.513 / 1968.2) / 1.018812 = 0.019048, the half 4.3027 sqrt(0.0099 / 984.1 + 18.513 / (4 * 984.1^2)) / 1.018812
    assert (low, high) == pytest.approx((0.019048 - 0.016269, 0.019048 + 0.016269), abs=5e-6)
    assert high - 0.010 > 0.010 - low > 0
    none = mean_of_trainings([0.0, 0.0, 0.0], [0.0014] * 3, (0.0, 1.0), 1000)
    assert none.interval is not None
    assert none.interval[0] == 0
    assert none.interval[1] == pytest.approx(1.96**2 / (3000 + 1.96**2), rel=0.05), "Wilson's, of none in 3,000 images"
    assert none.freedom is None


def test_the_intervals_of_two_trainings_hold_the_true_mean() -> None:
    random = np.random.default_rng(1)
    held = 0
    for values in random.normal(0, 1.25**0.5, (4000, 2)):
        low, high = mean_of_trainings([float(value) for value in values], [0.5, 0.5]).interval or (1, -1)
        held += low <= 0 <= high
    assert 0.945 < held / 4000 < 0.995


@pytest.mark.parametrize(("between", "within"), [(1.0, 0.1), (1.0, 0.5), (0.5, 1.0), (0.0, 1.0)])
def test_intervals_of_three_trainings_hold_the_true_mean_as_often_as_they_say(between: float, within: float) -> None:
    random = np.random.default_rng(0)
    held = 0
    for values in random.normal(0, (between**2 + within**2) ** 0.5, (2000, 3)):
        interval = mean_of_trainings([float(value) for value in values], [within] * 3).interval
        assert interval is not None
        held += interval[0] <= 0 <= interval[1]
    assert 0.935 < held / 2000 < 0.997


def test_holm_steps_down() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]  # 0.03 > 0.05 / 2, and there it stops
    assert holm([0.02, 0.03]) == [True, True]
    assert holm([]) == []


def test_false_alarms_stay_below_five_percent_however_many_runs() -> None:
    random = np.random.default_rng(0)
    alarms = 0
    for _ in range(400):
        values = random.normal(0, 1, 6)
        scores = [Measured(float(value), 1.0) for value in values]
        alarms += not all(like_best(scores, 0)[1:])
    assert alarms / 400 < 0.07


def test_overlapping_intervals_can_differ_and_a_value_without_error_is_not_tested() -> None:
    scores = [Measured(10.0, 0.3), Measured(11.1, 0.3), Measured(10.2, None), Measured(10.5, 0.3)]
    assert 10.0 + 1.96 * 0.3 > 11.1 - 1.96 * 0.3
    assert like_best(scores, 0) == [False, False, False, True]
    assert like_best([Measured(10.0, None), Measured(10.1, 0.3)], 0) == [False, False]


def test_stored_moments_suffice_for_fd_alone() -> None:
    real, fake = features(300, 16, 1), features(300, 16, 2)
    (score,) = score_features(moments(real), fake, ["fd"])
    assert score.value == pytest.approx(score_features(real, fake, ["fd"])[0].value, rel=1e-12)
    with pytest.raises(UsageError, match="needs the reference images"):
        score_features(moments(real), fake, ["kid"])


def test_a_mistyped_metric_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match="no metric `precison`") as caught:
        score_features(torch.rand(9, 2), torch.rand(9, 2), ["precison"])
    assert caught.value.hint == "did you mean `precision`?"
    with pytest.raises(UsageError, match="needs class logits"):
        score_features(torch.rand(9, 2), torch.rand(9, 2), ["is"])
