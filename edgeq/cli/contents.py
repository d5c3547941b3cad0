"""What a person reads of a file's contents: one line per op, then sums and the census."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from edgeq.cli.terminal import console, join_styled
from edgeq.formats.census import Census
from edgeq.formats.contents import Contents, Op, Tensor, peak_memory

__all__ = ["show_contents"]

WIDTH = 200  # in a pipe nothing needs to be cut


def show_contents(contents: Contents, path: Path) -> None:
    """On standard output: it is the result, and people search in it."""
    out = console(width=WIDTH)
    title = f"{path}  {contents.format}, {contents.bytes:,} bytes"
    out.print(join_styled((title, "bold"), f"  {contents.description}".rstrip()))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name, side in (
        ("#", "right"),
        ("op", "left"),
        ("reads", "left"),
        ("makes", "left"),
        ("scale", "left"),
        ("constants", "right"),
        ("MACs", "right"),
    ):
        table.add_column(name, justify="right" if side == "right" else "left", no_wrap=True)
    for place, op in enumerate(contents.ops):
        table.add_row(*_row(place, op))
    out.print(table)
    peak = peak_memory(contents.ops, contents.inputs, contents.outputs)
    out.print(f"inputs       {_ends(contents.inputs)}")
    out.print(f"outputs      {_ends(contents.outputs)}")
    out.print(
        f"constants    {contents.constant_bytes:,} bytes, the rest of the file "
        f"{contents.bytes - contents.constant_bytes:,}"
    )
    out.print(f"arithmetic   {contents.macs:,} multiply-accumulates")
    out.print(f"activations  {peak:,} bytes alive at once, at most")
    if contents.metadata:
        out.print(f"metadata     {', '.join(contents.metadata)}")
    out.print(f"as written   {_census(contents.census, contents.format)}")
    if contents.runtime_census is not None:
        out.print(f"as run here  {_census(contents.runtime_census, '')}")


def _row(place: int, op: Op) -> list[str]:
    output = op.outputs[0] if op.outputs else None
    read = " + ".join(_short(t) for t in op.inputs[:3]) + (f" + {len(op.inputs) - 3} more" * (len(op.inputs) > 3))
    constants = sum(t.bytes for t in op.constants)
    return [
        str(place),
        op.kind,
        read,
        _short(output) if output else "",
        _grid(output) if output else "",
        f"{constants:,}" if constants else "",
        f"{op.macs:,}" if op.macs else "",
    ]


def _short(tensor: Tensor) -> str:
    return f"{tensor.type} {'x'.join(map(str, tensor.shape)) or 'scalar'}"


def _grid(tensor: Tensor) -> str:
    if not tensor.scales:
        return ""
    if len(tensor.scales) == 1:
        return f"{tensor.scales[0]:.6g}, zero {tensor.zero_point}"
    return f"{min(tensor.scales):.3g} to {max(tensor.scales):.3g} ({len(tensor.scales)})"


def _ends(tensors: tuple[Tensor, ...]) -> str:
    return ", ".join(f"{t.name.partition(':')[2] or t.name} {_short(t)} {_grid(t)}".strip() for t in tensors)


def _census(census: Census, written: str) -> str:
    """Describe a census in words. The inner conversions of an ONNX file as written only state grids; they are no
    fault."""
    faults = {"float ops": census.float_ops, "transposes": census.transposes, "spatial pads": census.spatial_pads}
    notes = ""
    if written == "onnx":
        notes = f" ({census.quantize} QuantizeLinear and {census.dequantize} DequantizeLinear say the grids)"
    else:
        faults |= {"inner QUANTIZE": census.quantize, "inner DEQUANTIZE": census.dequantize}
    summary = (
        ", ".join(f"{count} {name}" for name, count in faults.items() if count) or "all integer, nothing in between"
    )
    if census.requantize:
        notes += f" ({census.requantize} QUANTIZE between 8 and 16 bits)"
    return f"{census.ops} ops: {summary}{notes}"
