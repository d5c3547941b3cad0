"""The classes: one function per sign, from a pen and this rendering's colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pictograms as pic
from pen import Colour, Pen, ngon, rectangle


@dataclass(frozen=True)
class Inks:
    """One rendering's paints: makers, age and dirt make every red a little different."""

    red: Colour
    blue: Colour
    yellow: Colour
    white: Colour
    black: Colour


Picture = Callable[[Pen, Inks], None]


def _ring(pen: Pen, rim: Colour, paper: Colour, border: float = 0.2) -> None:
    pen.disc(0, 0, 0.98, rim)
    pen.disc(0, 0, 0.98 - border * pen.weight, paper)


def _slash(pen: Pen, ink: Colour) -> None:
    pen.line([(-0.6, -0.6), (0.6, 0.6)], 0.17, ink)


def _limit(pen: Pen, inks: Inks, digits: str) -> None:
    _ring(pen, inks.red, inks.white)
    pic.text(pen.at(0, 0, 0.36), digits, inks.black)


def _banned(pen: Pen, inks: Inks, picture: Callable[[Pen, Colour], None], mirror: bool = False) -> None:
    _ring(pen, inks.red, inks.white)
    picture(pen.at(0, 0, 0.62, mirror=mirror), inks.black)
    _slash(pen, inks.red)


def _no_entry(pen: Pen, inks: Inks) -> None:
    _ring(pen, inks.white, inks.red, 0.05)
    pen.polygon(rectangle(-0.68, -0.17, 0.68, 0.17), inks.white)


def _no_cars(pen: Pen, inks: Inks) -> None:
    _ring(pen, inks.red, inks.white)
    pic.car(pen.at(0, 0, 0.62), inks.black, inks.white)


def _no_overtaking(pen: Pen, inks: Inks) -> None:
    _ring(pen, inks.red, inks.white)
    pic.car(pen.at(-0.36, 0, 0.38), inks.red, inks.white)
    pic.car(pen.at(0.36, 0, 0.38), inks.black, inks.white)


def _no_parking(pen: Pen, inks: Inks, *, crossed: bool) -> None:
    _ring(pen, inks.red, inks.blue, 0.18)
    _slash(pen, inks.red)
    if crossed:
        _slash(pen.at(0, 0, 1, mirror=True), inks.red)


def _end_of_limits(pen: Pen, inks: Inks) -> None:
    _ring(pen, inks.black, inks.white, 0.05)
    for shift in (-0.24, -0.08, 0.08, 0.24):
        pen.line([(-0.55 + shift, 0.55 + shift), (0.55 + shift, -0.55 + shift)], 0.07, inks.black)


def _warning(
    pen: Pen, inks: Inks, picture: Callable[[Pen, Colour], None], mirror: bool = False, scale: float = 0.42
) -> None:
    pen.polygon(ngon(3, 1.12, -90, y=0.26), inks.red)
    pen.polygon(ngon(3, 1.12 - 0.36 * pen.weight, -90, y=0.26), inks.white)
    picture(pen.at(0, 0.28, scale, mirror=mirror), inks.black)


def _yield(pen: Pen, inks: Inks) -> None:
    pen.polygon(ngon(3, 1.12, 90, y=-0.26), inks.red)
    pen.polygon(ngon(3, 1.12 - 0.42 * pen.weight, 90, y=-0.26), inks.white)


def _stop(pen: Pen, inks: Inks) -> None:
    pen.polygon(ngon(8, 1.04, 22.5), inks.white)
    pen.polygon(ngon(8, 0.97, 22.5), inks.red)
    pic.text(pen.at(0, 0, 0.29), "STOP", inks.white, width=0.34)


def _ordered(pen: Pen, inks: Inks, picture: Callable[[Pen, Colour], None], mirror: bool = False) -> None:
    _ring(pen, inks.white, inks.blue, 0.05)
    picture(pen.at(0, 0, 0.72, mirror=mirror), inks.white)


def _diamond(pen: Pen, edge: Colour, fill: Colour, border: float) -> None:
    pen.polygon(ngon(4, 1.0, 0), edge)
    pen.polygon(ngon(4, 1.0 - border * pen.weight, 0), fill)


def _priority(pen: Pen, inks: Inks) -> None:
    _diamond(pen, inks.white, inks.yellow, 0.28)


def _ducks(pen: Pen, inks: Inks) -> None:
    _diamond(pen, inks.black, inks.yellow, 0.1)
    pic.duck(pen.at(0, 0, 0.5), inks.black, inks.yellow)


def _board(pen: Pen, inks: Inks) -> None:
    pen.polygon(rectangle(-0.92, -0.92, 0.92, 0.92), inks.white)
    pen.polygon(rectangle(-0.85, -0.85, 0.85, 0.85), inks.blue)


def _parking(pen: Pen, inks: Inks, letter: str) -> None:
    _board(pen, inks)
    pic.text(pen.at(0, 0, 0.55), letter, inks.white)


def _crossing(pen: Pen, inks: Inks) -> None:
    _board(pen, inks)
    pen.polygon([(0, -0.72), (0.74, 0.66), (-0.74, 0.66)], inks.white)
    pic.walker(pen.at(0, 0.18, 0.42), inks.black)


def _dead_end(pen: Pen, inks: Inks) -> None:
    _board(pen, inks)
    pen.line([(0, 0.75), (0, -0.2)], 0.26, inks.white)
    pen.polygon(rectangle(-0.52, -0.6, 0.52, -0.22), inks.red)


PICTURES: dict[str, Picture] = {
    "no-entry": _no_entry,
    "limit-30": partial(_limit, digits="30"),
    "limit-50": partial(_limit, digits="50"),
    "limit-60": partial(_limit, digits="60"),
    "limit-80": partial(_limit, digits="80"),
    "no-left-turn": partial(_banned, picture=pic.turn),
    "no-right-turn": partial(_banned, picture=pic.turn, mirror=True),
    "no-bicycles": partial(_banned, picture=pic.bicycle),
    "no-cars": _no_cars,
    "no-overtaking": _no_overtaking,
    "no-parking": partial(_no_parking, crossed=False),
    "no-stopping": partial(_no_parking, crossed=True),
    "end-of-limits": _end_of_limits,
    "danger": partial(_warning, picture=pic.exclamation),
    "bend-left": partial(_warning, picture=pic.bend),
    "bend-right": partial(_warning, picture=pic.bend, mirror=True),
    "crossroads": partial(_warning, picture=pic.crossroads),
    "road-narrows": partial(_warning, picture=pic.narrows),
    "hump": partial(_warning, picture=pic.hump),
    "snow": partial(_warning, picture=pic.snowflake),
    "signals-ahead": partial(_warning, picture=pic.signals),
    "pedestrians": partial(_warning, picture=pic.walker, scale=0.46),
    "deer": partial(_warning, picture=pic.deer, scale=0.48),
    "cattle": partial(_warning, picture=pic.cow, scale=0.48),
    "yield": _yield,
    "stop": _stop,
    "priority-road": _priority,
    "ducks": _ducks,
    "go-straight": partial(_ordered, picture=pic.straight),
    "go-left": partial(_ordered, picture=pic.sideways),
    "go-right": partial(_ordered, picture=pic.sideways, mirror=True),
    "pass-left": partial(_ordered, picture=pic.diagonal),
    "pass-right": partial(_ordered, picture=pic.diagonal, mirror=True),
    "roundabout": partial(_ordered, picture=pic.roundabout),
    "bicycle-path": partial(_ordered, picture=pic.bicycle),
    "parking": partial(_parking, letter="P"),
    "hospital": partial(_parking, letter="H"),
    "crossing": _crossing,
    "dead-end": _dead_end,
    "footpath": partial(_ordered, picture=pic.walker),
}
