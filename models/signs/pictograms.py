"""What stands on the signs: digits, letters, arrows, vehicles, people, animals, each drawn within [-1, 1]."""

from __future__ import annotations

from pen import Colour, Pen, Point, arc, rectangle

# Strokes of the characters, each within x in [-0.5, 0.5], y in [-1, 1].
_STROKES: dict[str, list[list[Point]]] = {
    "0": [arc(0, 0, 0.5, 1, 0, 360)],
    "3": [arc(-0.05, -0.5, 0.5, 0.5, -160, 90), arc(-0.05, 0.5, 0.55, 0.5, -90, 160)],
    "5": [[(0.45, -1), (-0.35, -1), (-0.42, -0.1)], arc(-0.05, 0.37, 0.55, 0.63, -135, 150)],
    "6": [arc(0, 0.4, 0.5, 0.6, 0, 360), [(-0.5, 0.4), (-0.38, -0.35), (-0.1, -0.8), (0.3, -1)]],
    "8": [arc(0, -0.5, 0.43, 0.5, 0, 360), arc(0, 0.5, 0.5, 0.5, 0, 360)],
    "S": [arc(0, -0.5, 0.45, 0.5, -30, -270), arc(0, 0.5, 0.45, 0.5, -90, 150)],
    "T": [[(-0.5, -1), (0.5, -1)], [(0, -1), (0, 1)]],
    "O": [arc(0, 0, 0.5, 1, 0, 360)],
    "P": [[(-0.42, 1), (-0.42, -1), (0, -1)], arc(0, -0.45, 0.48, 0.55, -90, 90), [(0, 0.1), (-0.42, 0.1)]],
    "H": [[(-0.45, -1), (-0.45, 1)], [(0.45, -1), (0.45, 1)], [(-0.45, 0), (0.45, 0)]],
}


def text(pen: Pen, letters: str, ink: Colour, width: float = 0.36) -> None:
    """`letters` side by side, two units high."""
    step = 1.0 + width * 1.25
    for i, letter in enumerate(letters):
        place = pen.at((i - (len(letters) - 1) / 2) * step, 0, 1)
        for stroke in _STROKES[letter]:
            place.line(stroke, width, ink)


def straight(pen: Pen, ink: Colour) -> None:
    pen.arrow([(0, 0.85), (0, -0.4)], 0.3, ink)


def sideways(pen: Pen, ink: Colour) -> None:
    """An arrow to the left."""
    pen.arrow([(0.85, 0), (-0.4, 0)], 0.3, ink)


def turn(pen: Pen, ink: Colour) -> None:
    """From below, then to the left."""
    pen.arrow([(0.4, 0.85), (0.4, -0.05), (0.25, -0.25), (0.05, -0.32), (-0.4, -0.32)], 0.28, ink)


def diagonal(pen: Pen, ink: Colour) -> None:
    """Down and to the left: pass on this side."""
    pen.arrow([(0.6, -0.6), (-0.3, 0.3)], 0.3, ink)


def bend(pen: Pen, ink: Colour) -> None:
    """A road that bends to the left, without a head: it warns, it does not command."""
    pen.line([(0.3, 0.9), (0.3, 0.3), (0.2, -0.05), (-0.1, -0.4), (-0.45, -0.7)], 0.3, ink)
    pen.polygon([(-0.75, -0.95), (-0.05, -0.85), (-0.6, -0.3)], ink)


def roundabout(pen: Pen, ink: Colour) -> None:
    for start in (0, 120, 240):
        pen.arrow(arc(0, 0, 0.66, 0.66, start + 95, start + 15), 0.22, ink, head=2.4)


def crossroads(pen: Pen, ink: Colour) -> None:
    pen.line([(-0.7, -0.7), (0.7, 0.7)], 0.34, ink)
    pen.line([(-0.7, 0.7), (0.7, -0.7)], 0.34, ink)


def narrows(pen: Pen, ink: Colour) -> None:
    for side in (-1, 1):
        pen.line([(side * 0.62, 0.9), (side * 0.62, 0.35), (side * 0.24, -0.2), (side * 0.24, -0.9)], 0.22, ink)


def hump(pen: Pen, ink: Colour) -> None:
    pen.polygon(rectangle(-1, 0.35, 1, 0.6), ink)
    for x in (-0.45, 0.45):
        pen.polygon(arc(x, 0.4, 0.42, 0.75, 180, 360), ink)


def exclamation(pen: Pen, ink: Colour) -> None:
    pen.polygon([(-0.2, -1), (0.2, -1), (0.12, 0.4), (-0.12, 0.4)], ink)
    pen.disc(0, 0.75, 0.2, ink)


def snowflake(pen: Pen, ink: Colour) -> None:
    for tip in ((0.0, -0.95), (0.82, -0.47), (0.82, 0.47)):
        x, y = tip
        pen.line([(-x, -y), (x, y)], 0.15, ink)
        for side in (-1, 1):
            # barbs: perpendicular offsets at two thirds of the arm
            bx, by, nx, ny = side * x * 0.55, side * y * 0.55, -y * 0.3, x * 0.3
            out = (side * x * 0.85, side * y * 0.85)
            pen.line([(out[0] + nx, out[1] + ny), (bx, by), (out[0] - nx, out[1] - ny)], 0.11, ink)


def signals(pen: Pen, ink: Colour) -> None:
    pen.polygon(rectangle(-0.42, -1, 0.42, 1), ink)
    for y, lamp in ((-0.63, (225, 45, 40)), (0.0, (245, 190, 40)), (0.63, (40, 170, 80))):
        pen.disc(0, y, 0.27, lamp)


def walker(pen: Pen, ink: Colour) -> None:
    """A person striding."""
    pen.disc(0.05, -0.8, 0.2, ink)
    pen.polygon([(-0.2, -0.55), (0.22, -0.55), (0.2, 0.15), (-0.15, 0.15)], ink)
    pen.line([(-0.02, 0.1), (-0.25, 0.5), (-0.55, 0.95)], 0.22, ink)
    pen.line([(0.06, 0.1), (0.3, 0.5), (0.42, 0.95)], 0.22, ink)
    pen.line([(-0.1, -0.45), (-0.42, -0.1), (-0.55, 0.12)], 0.15, ink)
    pen.line([(0.14, -0.45), (0.42, -0.12), (0.68, -0.2)], 0.15, ink)


def bicycle(pen: Pen, ink: Colour) -> None:
    for x in (-0.55, 0.55):
        pen.line(arc(x, 0.35, 0.38, 0.38, 0, 360), 0.13, ink)
    pen.line([(-0.55, 0.35), (-0.28, -0.25), (0.35, -0.25), (0.0, 0.35), (-0.55, 0.35)], 0.12, ink)
    pen.line([(0.0, 0.35), (-0.36, -0.45)], 0.12, ink)
    pen.line([(-0.52, -0.47), (-0.2, -0.47)], 0.14, ink)
    pen.line([(0.55, 0.35), (0.28, -0.52), (0.55, -0.6)], 0.12, ink)


def car(pen: Pen, ink: Colour, paper: Colour) -> None:
    """Seen from behind."""
    pen.polygon([(-0.75, 0.5), (-0.8, -0.02), (-0.5, -0.6), (0.5, -0.6), (0.8, -0.02), (0.75, 0.5)], ink)
    pen.polygon([(-0.48, -0.08), (-0.34, -0.42), (0.34, -0.42), (0.48, -0.08)], paper)
    for x in (-0.55, 0.55):
        pen.polygon(rectangle(x - 0.17, 0.45, x + 0.17, 0.8), ink)
        pen.disc(x, 0.2, 0.1, paper)


def deer(pen: Pen, ink: Colour) -> None:
    """Leaping to the left."""
    pen.polygon(
        [
            (-0.55, -0.32),
            (-0.86, -0.2),
            (-0.9, -0.34),
            (-0.62, -0.56),
            (-0.46, -0.6),
            (-0.34, -0.42),
            (-0.1, -0.12),
            (0.45, -0.02),
            (0.72, -0.12),
            (0.78, 0.0),
            (0.62, 0.12),
            (0.62, 0.3),
            (0.4, 0.42),
            (0.0, 0.32),
            (-0.3, 0.3),
            (-0.46, 0.08),
        ],
        ink,
    )
    pen.line([(-0.36, 0.2), (-0.66, 0.22), (-0.86, 0.5)], 0.13, ink)
    pen.line([(-0.24, 0.24), (-0.46, 0.52), (-0.5, 0.84)], 0.13, ink)
    pen.line([(0.5, 0.3), (0.72, 0.6), (0.9, 0.86)], 0.14, ink)
    pen.line([(0.38, 0.34), (0.48, 0.62), (0.62, 0.92)], 0.14, ink)
    pen.line([(-0.48, -0.55), (-0.4, -0.82), (-0.55, -1.0)], 0.09, ink)
    pen.line([(-0.44, -0.55), (-0.22, -0.78), (-0.2, -1.0)], 0.09, ink)
    pen.line([(-0.32, -0.68), (-0.06, -0.76)], 0.09, ink)


def cow(pen: Pen, ink: Colour) -> None:
    """Standing, head to the left."""
    pen.polygon(
        [
            (-0.98, -0.05),
            (-0.9, -0.3),
            (-0.72, -0.46),
            (-0.5, -0.44),
            (0.72, -0.44),
            (0.84, -0.3),
            (0.82, 0.25),
            (-0.4, 0.3),
            (-0.56, 0.1),
            (-0.76, 0.12),
        ],
        ink,
    )
    for x in (-0.42, -0.2, 0.48, 0.74):
        pen.line([(x, 0.2), (x, 0.82)], 0.17, ink)
    pen.line([(-0.72, -0.42), (-0.84, -0.66)], 0.1, ink)
    pen.line([(-0.62, -0.42), (-0.56, -0.68)], 0.1, ink)
    pen.line([(0.8, -0.36), (0.97, 0.0), (0.95, 0.32)], 0.08, ink)
    pen.polygon(arc(0.32, 0.28, 0.16, 0.16, 0, 180), ink)


def duck(pen: Pen, ink: Colour, paper: Colour) -> None:
    """Walking to the left."""
    pen.disc(-0.42, -0.5, 0.28, ink)
    pen.polygon([(-0.62, -0.58), (-0.98, -0.42), (-0.62, -0.34)], ink)
    pen.polygon(
        [
            (-0.6, -0.4),
            (-0.2, -0.4),
            (-0.02, -0.12),
            (0.55, -0.12),
            (0.98, -0.38),
            (0.86, 0.2),
            (0.5, 0.5),
            (-0.2, 0.52),
            (-0.56, 0.28),
            (-0.5, -0.05),
        ],
        ink,
    )
    pen.disc(-0.48, -0.56, 0.07, paper)
    for x in (-0.12, 0.28):
        pen.line([(x, 0.45), (x, 0.85), (x - 0.2, 0.85)], 0.1, ink)
