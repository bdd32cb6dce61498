"""The appearance of one face: its labels, and the numbers and colors that every part of the drawing shares."""

from __future__ import annotations

import colorsys
import random
from dataclasses import dataclass

from animegen_cli.prepare.drawn.attributes import EYES, HAIR, SKIN
from animegen_cli.prepare.drawn.paint import WHITE, Color, Pose, mix, tone

# Wide hair is drawn smaller, so that it fits into the frame.
_ROOM = {"twintails": 0.9, "buns": 0.93, "ponytail": 0.96, "spiky": 0.9, "wavy": 0.95}


@dataclass(frozen=True)
class Tones:
    """A color and its relatives: what catches light, what lies in shade, what is darkest, and its ink line."""

    base: Color
    light: Color
    shade: Color
    deep: Color
    line: Color


@dataclass(frozen=True)
class Appearance:
    """Everything that is decided before the first brush stroke. Lengths are in face units."""

    labels: dict[str, str]
    rng: random.Random
    pose: Pose
    hair: Tones
    skin: Tones
    eye: Color
    cloth: Tones
    trim: Color
    male: bool
    chin: float
    """How low the chin lies."""
    jaw: float
    """How wide the jaw is; 1 is usual."""
    part: float
    """Where the hair parts; left of the middle below 0."""

    def vary(self, low: float, high: float) -> float:
        """Draw the next random number between `low` and `high`."""
        return low + (high - low) * self.rng.random()

    def side(self) -> int:
        """Draw a side: left (-1) or right (1)."""
        return 1 if self.rng.random() < 0.5 else -1


def appearance(labels: dict[str, str], rng: random.Random) -> Appearance:
    """Decide how the face with these `labels` looks."""

    def vary(low: float, high: float) -> float:
        return low + (high - low) * rng.random()

    male = labels["gender"] == "male"
    eared = labels["accessory"] == "cat-ears"
    room = min(_ROOM.get(labels["style"], 1.0), 0.88 if eared else 1.0)
    pose = Pose(
        yaw=vary(-1, 1),
        pitch=vary(-0.5, 0.6),
        roll=vary(-0.17, 0.17),
        scale=vary(1.02, 1.2) * room,
        shift=(vary(-0.06, 0.06), vary(-0.1, 0.03) + (0.13 if eared else 0.0)),
    )
    hair = tone(HAIR[labels["hair"]], vary(0.93, 1.04), vary(0.88, 1.06), vary(-0.012, 0.012))
    skin = tone(SKIN[labels["skin"]], vary(0.98, 1.0), vary(0.9, 1.1))
    cloth = tone((200, 60, 60), vary(0.4, 1.25), vary(0.2, 1.1), vary(0, 1))
    return Appearance(
        labels=labels,
        rng=rng,
        pose=pose,
        hair=_hair_tones(hair),
        skin=Tones(
            base=skin,
            light=mix(skin, WHITE, 0.4),
            shade=mix(tone(skin, 0.88, 1.45, -0.015), (222, 130, 130), 0.12),
            deep=tone(skin, 0.72, 1.9, -0.02),
            line=mix(tone(skin, 0.42, 2.2, -0.02), (80, 30, 40), 0.4),
        ),
        eye=tone(EYES[labels["eyes"]], vary(0.95, 1.05), vary(0.92, 1.05), vary(-0.01, 0.01)),
        cloth=Tones(cloth, mix(cloth, WHITE, 0.35), tone(cloth, 0.75), tone(cloth, 0.5), tone(cloth, 0.35)),
        trim=_apart(hair, vary(0.25, 0.75), vary(0.85, 1.05), vary(0.6, 0.85)),
        male=male,
        chin=vary(0.80, 0.86) if male else vary(0.74, 0.80),
        jaw=vary(1.0, 1.1) if male else vary(0.94, 1.06),
        part=vary(-0.3, 0.3),
    )


def _hair_tones(base: Color) -> Tones:
    # Shade leans toward violet, as animators paint it, so that even gray and white hair get a color there.
    return Tones(
        base=base,
        light=mix(base, WHITE, 0.5),
        shade=mix(tone(base, 0.8, 1.12), (96, 60, 150), 0.10),
        deep=mix(tone(base, 0.6, 1.2), (70, 40, 110), 0.14),
        line=mix(tone(base, 0.36, 1.15), (30, 16, 46), 0.35),
    )


def _apart(color: Color, turn: float, value: float, saturation: float) -> Color:
    """A vivid color whose hue is `turn` of the circle away from that of `color`."""
    hue = colorsys.rgb_to_hsv(*color)[0] + turn
    red, green, blue = (round(255 * channel) for channel in colorsys.hsv_to_rgb(hue % 1, saturation, min(value, 1.0)))
    return red, green, blue
