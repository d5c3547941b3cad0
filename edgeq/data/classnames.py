"""From what people call classes (names, numbers, ImageNet's synset ids) to the indices of a network's outputs."""

from __future__ import annotations

import importlib.util
import re
from collections import defaultdict
from collections.abc import Sequence

from edgeq.errors import LabelsError
from edgeq.model.spec import ModelSpec

__all__ = ["ClassNames", "number_folders"]

SHOWN = 4
"""Number of names of each side that an error shows."""

IMAGENET = 1000
"""Number of classes of ImageNet-1k networks; their order is the sorted order of the synset ids."""

_NUMBER = re.compile(r"[0-9]{1,9}")
_NUMBERED = re.compile(r"([0-9]{1,9})[\s_.\-]+(.+)")
_SYNSET = re.compile(r"n[0-9]{8}")


class ClassNames:
    """Look up a network's labels by name: exactly, else ignoring case, spaces, underscores, dots and dashes.

    A label such as ``n01440764 tench, Tinca tinca`` is also found by its synset id and by each of its synonyms.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._exact: dict[str, set[int]] = defaultdict(set)
        self._loose: dict[str, set[int]] = defaultdict(set)
        for index, label in enumerate(labels):
            for name in _names(label):
                self._exact[name].add(index)
                self._loose[_plain(name)].add(index)
        self.are_numbers = bool(labels) and all(_NUMBER.fullmatch(label) for label in labels)
        self._count = len(labels)

    def find(self, name: str) -> int | None:
        """The class called `name`, also as ``007_seven`` or by its number; None for none, or for more than one."""
        for known, key in ((self._exact, name), (self._loose, _plain(name))):
            if key in known:
                return next(iter(known[key])) if len(known[key]) == 1 else None
        if numbered := _NUMBERED.fullmatch(name):
            return self.find(numbered[2]) if not _NUMBER.fullmatch(numbered[2]) else None
        if _NUMBER.fullmatch(name) and not self.are_numbers and int(name) < self._count:
            return int(name)
        return None


def _names(label: str) -> set[str]:
    first, _, rest = label.partition(" ")
    synset = {first, rest.strip()} if _SYNSET.fullmatch(first) and rest else set()
    synonyms = rest if synset else label
    return {label, *synset, *(part.strip() for part in synonyms.split(","))} - {""}


def _plain(name: str) -> str:
    return re.sub(r"[\s_.\-]+", "", name.casefold())


def number_folders(names: Sequence[str], spec: ModelSpec, source: str) -> tuple[list[int], str]:
    """The class of each class folder, and what a person should know about how it was found, else an empty text.

    With `spec.labels` every name must match one. Without, names that are numbers are classes, ImageNet's synset ids
    are those of an ImageNet network, and other names are numbered in sorted order, as torchvision does it, which is
    right only for a network that was trained so. Raises `ConfigError` for names that match no class, or the same one.
    """
    numbers, note = _numbers(names, spec, source)
    for place, number in enumerate(numbers):
        if number in numbers[:place]:
            twins = (names[numbers.index(number)], names[place])
            raise LabelsError(f"class folders {twins[0]!r} and {twins[1]!r} of {source} are both class {number}")
    return numbers, note


def _numbers(names: Sequence[str], spec: ModelSpec, source: str) -> tuple[list[int], str]:
    if spec.labels:
        numbered = all(map(_NUMBER.fullmatch, names)) and not ClassNames(spec.labels).are_numbers
        counted, note = _count_classes([int(name) for name in names], spec) if numbered else ([], "")
        return (counted, note) if note else (_match_names(names, spec, source), "")
    if all(map(_NUMBER.fullmatch, names)):
        return _count_classes([int(name) for name in names], spec)
    if all(map(_SYNSET.fullmatch, names)) and spec.classes == IMAGENET:
        return _synsets(names, source), ""
    prefixed = [_NUMBERED.fullmatch(name) for name in names]
    numbers = [int(match[1]) for match in prefixed if match]
    if len(numbers) == len(names) and len(set(numbers)) == len(names):
        counted, note = _count_classes(numbers, spec)
        if max(counted) < spec.decisions:
            return counted, note
    order = sorted(names)
    few = f"there are {len(names)} folders for {spec.decisions} classes; " if len(names) < spec.decisions else ""
    first = ", ".join(f"{name} = {place}" for place, name in enumerate(order[:3]))
    return [order.index(name) for name in names], (
        f"class folders were numbered in sorted order ({first}, ...): {few}accuracy is wrong unless the network was "
        "trained with this order. Name its classes: labels under [output] in model.toml"
    )


def _match_names(names: Sequence[str], spec: ModelSpec, source: str) -> list[int]:
    known = ClassNames(spec.labels)
    numbers = {name: known.find(name) for name in names}
    strange = [name for name, number in numbers.items() if number is None]
    if strange:
        taken = set(numbers.values())
        free = [label for index, label in enumerate(spec.labels) if index not in taken]
        raise LabelsError(
            f"class folders {_list_names(strange)} of {source} match no label of {spec.name}, or more than one",
            why=f"labels without a folder are {_list_names(free)}" if free else "every label has a folder of its own",
            hint="rename the folders as the labels are called",
        )
    return [number for number in numbers.values() if number is not None]


def _count_classes(numbers: list[int], spec: ModelSpec) -> tuple[list[int], str]:
    """Class numbers from numeric names: as they are, or less 1 if they count from 1 to the number of classes."""
    if sorted(numbers) == list(range(1, spec.decisions + 1)):
        return [
            n - 1 for n in numbers
        ], f"class folders are numbered 1 to {spec.decisions}: folder 1 was taken for class 0"
    return numbers, ""


def _synsets(names: Sequence[str], source: str) -> list[int]:
    """Indices of synset ids: by their sorted order where all are there, else out of timm's list."""
    order = sorted(names)
    if len(order) != IMAGENET:
        if importlib.util.find_spec("timm") is None:
            raise LabelsError(
                f"class folders of {source} are {len(names)} of ImageNet's {IMAGENET} synsets",
                why="which ones these are is in no file of the model",
                hint="pip install 'edgeq[timm]', which has the list, or labels with synset ids in model.toml",
            )
        from timm.data import ImageNetInfo

        order = ImageNetInfo().label_names()
        if strange := [name for name in names if name not in order]:
            raise LabelsError(f"class folders {_list_names(strange)} of {source} are no synsets of ImageNet-1k")
    return [order.index(name) for name in names]


def _list_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(repr(name[:60]) for name in names[:SHOWN]) + more
