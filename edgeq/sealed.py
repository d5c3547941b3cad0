"""JSON with its own sha256 inside, so that a file that was damaged on the disk is never believed."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NoReturn

__all__ = ["open_json", "seal_json"]


def seal_json(body: Any) -> str:
    """`body` as JSON text with its hash, keys in their order. Raises `ValueError` where it holds NaN or infinity."""
    text = _text(body)
    return json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "body": body})


def open_json(text: str | bytes) -> Any:
    """What `seal_json` was given. Raises `ValueError` for text that is not what it made."""
    try:
        sealed = json.loads(text, parse_constant=_refuse)
        body, digest = sealed["body"], sealed["sha256"]
        whole = hashlib.sha256(_text(body).encode()).hexdigest() == digest
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError("no sealed JSON") from error
    if not whole:
        raise ValueError("the hash is another")
    return body


def _text(body: Any) -> str:
    return json.dumps(body, allow_nan=False)  # ops stand in the order they run in, which sorting would lose


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
