"""How well a run finds held-out images behind noise: document 004's inverse problem, "denoising by encoding-decoding"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from animegen_cli import console
from animegen_cli.errors import DataError, UsageError
from animegen_cli.evaluate import heldout
from animegen_cli.metrics.fidelity import FUNCTIONS
from animegen_cli.metrics.protocol import Denoising
from animegen_cli.model import abilities
from animegen_cli.model.family import Denoises
from animegen_cli.model.noise import Noise
from animegen_cli.model.pixels import channels_first, from_uint8, to_uint8
from animegen_cli.sample.trained import micro_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from animegen_cli.evaluate.images import EvaluatedRun
    from animegen_cli.evaluate.judge import JudgeResult
    from animegen_cli.metrics.protocol import Protocol

DEVIATIONS = (0.1, 0.2, 0.4)
"""Of the noise, in units of [-1, 1]: 13, 26 and 51 gray levels; document 004 names none."""
MEASURES = ("psnr", "ssim")
METRICS = ("denoise", *(f"denoise-{measure}" for measure in MEASURES))
"""Both measures, or one of them; each is a score per deviation and, of hierarchies, per number of levels."""


class DenoisingJudge:
    """Adds noise to held-out images, lets the run take it away, and compares with the images themselves."""

    metrics = METRICS

    def protocols(self, subject: EvaluatedRun, words: Sequence[str] | None) -> list[Protocol]:
        """How each score is measured; UsageError for a family that cannot denoise."""
        model = subject.trained.model
        if not isinstance(model, Denoises):
            if words is None:
                return []
            raise UsageError(
                f"a {subject.trained.config.family} run cannot {abilities.VERBS['denoises']}",
                hint=f"leave `{words[0]}` out of `--metrics`; {abilities.only(abilities.families_able('denoises'))}",
            )
        try:
            measures = [
                measure for measure in MEASURES if words is None or {"denoise", f"denoise-{measure}"} & {*words}
            ]
            ways = [(deviation, kept) for deviation in DEVIATIONS for kept in (None, *tops(model.levels()))]
            return [heldout.protocol(subject, Denoising(one, *way).metric) for one in measures for way in ways]
        except DataError as error:  # the run's own set is gone, which other scores do not need
            if words is not None:
                raise
            console.note(f"denoising is left out: {error.message}")
            return []

    def judge(self, subject: EvaluatedRun, protocols: Sequence[Protocol]) -> JudgeResult:
        """Measure every score on the same held-out images with the same noise, in one pass over them."""
        return heldout.judged(subject, protocols, _measure)


def tops(levels: int) -> list[int]:
    """The numbers of top levels that a hierarchy of so many levels is tried with: 1, 2, 4, ... and all; none of a single one."""
    powers = [1 << power for power in range(levels.bit_length()) if 1 << power < levels]
    return [*powers, levels] if powers else []


def _measure(subject: EvaluatedRun, protocols: Sequence[Protocol]) -> dict[str, Tensor]:
    """Each protocol's metric -> its value of every held-out image: float64 (n,), on the CPU."""
    trained, sampling = subject.trained, subject.source.generator.sampling
    model, size = trained.model, trained.data.size
    assert isinstance(model, Denoises)  # else `protocols` had refused
    scores = [found for measured in protocols if (found := Denoising.parse(measured.metric)) is not None]
    parts: dict[str, list[Tensor]] = {score.metric: [] for score in scores}
    ways = list(dict.fromkeys((score.deviation, score.levels) for score in scores))
    indices, batch = heldout.chosen(subject, protocols[0]), micro_batch(trained.device, size)
    with console.progress("denoising", len(indices) * len(ways)) as bar, torch.no_grad():
        for start in range(0, len(indices), batch):
            pixels = channels_first(subject.faces.pixels(indices[start : start + batch], size=size))
            images = from_uint8(pixels, trained.device)
            noise = Noise(range(start, start + len(pixels)), trained.device)(*images.shape[1:])
            for deviation, levels in ways:
                denoised = to_uint8(model.denoised(images + deviation * noise, deviation, sampling, levels)).cpu()
                for score in scores:
                    if (score.deviation, score.levels) == (deviation, levels):
                        parts[score.metric].append(FUNCTIONS[score.measure](denoised, pixels))
                bar.advance(len(pixels))
    return {metric: torch.cat(of_metric) for metric, of_metric in parts.items()}
