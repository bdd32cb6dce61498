"""What a drawn face can be: its attributes, how often each occurs, and the colors behind their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

    from animegen_cli.prepare.drawn.paint import Color

# The names of hair and eye colors are those that tagged sets of anime faces use.
HAIR: dict[str, Color] = {
    "black": (56, 54, 70),
    "brown": (132, 84, 56),
    "blonde": (245, 212, 112),
    "orange": (240, 136, 52),
    "red": (202, 44, 50),
    "pink": (250, 150, 190),
    "purple": (142, 92, 196),
    "blue": (66, 100, 212),
    "aqua": (84, 208, 220),
    "green": (84, 176, 96),
    "gray": (142, 146, 160),
    "white": (232, 234, 246),
}

EYES: dict[str, Color] = {
    "blue": (44, 110, 232),
    "red": (216, 32, 44),
    "green": (36, 168, 72),
    "purple": (138, 60, 208),
    "brown": (140, 80, 38),
    "aqua": (28, 190, 206),
    "yellow": (240, 196, 30),
    "pink": (244, 84, 158),
    "orange": (242, 120, 24),
    "black": (52, 48, 60),
    "gray": (128, 134, 148),
}

SKIN: dict[str, Color] = {
    "fair": (255, 236, 224),
    "peach": (254, 223, 200),
    "tan": (234, 186, 148),
    "brown": (186, 128, 92),
}

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "gender": ("female", "male"),
    "hair": tuple(HAIR),
    "style": ("short", "spiky", "bob", "long", "wavy", "twintails", "ponytail", "buns"),
    "bangs": ("straight", "swept", "parted", "choppy"),
    "eyes": tuple(EYES),
    "shape": ("round", "almond", "sharp", "droopy"),
    "expression": ("calm", "smile", "happy", "surprised", "sad", "angry", "shy", "wink"),
    "skin": tuple(SKIN),
    "accessory": ("none", "glasses", "ribbon", "hairclip", "flower", "headband", "cat-ears", "headphones"),
    "background": ("white", "plain", "gradient", "dots", "stripes", "rays", "bokeh", "night"),
}

# Relative frequencies, in the order of the values above. Any value that is not listed counts once.
_OFTEN: dict[str, dict[str, float]] = {
    "gender": {"female": 7, "male": 3},
    "hair": {"black": 1.3, "brown": 1.3, "blonde": 1.2},
    "skin": {"fair": 5, "peach": 4, "tan": 1.2, "brown": 0.8},
    "accessory": {"none": 7},
    "background": {"white": 2, "plain": 1.5, "gradient": 2.5, "night": 0.6},
}
_OFTEN_FEMALE: dict[str, dict[str, float]] = {
    "style": {"short": 0.7, "spiky": 0.25, "bob": 1.4, "long": 2, "wavy": 1.2, "twintails": 1.3},
    "shape": {"round": 2, "almond": 1.4, "sharp": 0.7},
}
_OFTEN_MALE: dict[str, dict[str, float]] = {
    "style": {"short": 3, "spiky": 3, "bob": 0.5, "long": 0.4, "wavy": 0, "twintails": 0, "ponytail": 0.4, "buns": 0},
    "bangs": {"straight": 0.3},
    "shape": {"round": 0.5, "sharp": 2},
    "accessory": {"none": 7, "ribbon": 0, "flower": 0, "cat-ears": 0.5},
}


def choose(rng: random.Random) -> dict[str, str]:
    """One value for every attribute, drawn by its frequency."""
    labels: dict[str, str] = {}
    for name, values in ATTRIBUTES.items():
        own = _OFTEN_MALE if labels.get("gender") == "male" else _OFTEN_FEMALE
        often = own.get(name, _OFTEN.get(name, {}))
        labels[name] = _pick(rng.random(), values, [often.get(value, 1.0) for value in values])
    return labels


def _pick(share: float, values: tuple[str, ...], weights: list[float]) -> str:
    share *= sum(weights)
    for value, weight in zip(values, weights, strict=True):
        share -= weight
        if share < 0:
            return value
    return max(zip(weights, values, strict=True))[1]
