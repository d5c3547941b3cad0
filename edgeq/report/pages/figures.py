"""Numbers as a report writes them."""

from __future__ import annotations

__all__ = ["bytes_text", "count_text", "ms_text", "share_text", "signed_text"]


def bytes_text(count: float) -> str:
    """Bytes, in thousands or millions where there are so many."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def count_text(value: float) -> str:
    """A count, thousands apart; millions and above in short."""
    for limit, unit in ((1e9, "G"), (1e6, "M")):
        if value >= limit:
            return f"{value / limit:.2f} {unit}"
    return f"{value:,}"


def ms_text(value: float) -> str:
    """Milliseconds, without their unit."""
    return f"{value:.2f}" if value >= 10 else f"{value:.3f}"


def share_text(value: float) -> str:
    """A share as percent; what is not all of it never shows as 100."""
    if value == 1:
        return "100 %"
    return f"{min(100 * value, 99.99):.2f} %"


def signed_text(value: float) -> str:
    """A difference, two decimals; one that rounds to nothing has no minus."""
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")
