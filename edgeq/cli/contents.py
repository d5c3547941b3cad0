"""What a person reads of a file's contents: one line per op, then sums and the census."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgeq.errors import printable
from edgeq.export.census import Census
from edgeq.inspection.contents import Contents, Op, Tensor, peak_memory

__all__ = ["show_contents"]

WIDTH = 200  # in a pipe nothing needs to be cut


def show_contents(contents: Contents, path: Path) -> None:
    """On standard output: it is the result, and people search in it."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    title = f"{path}  {contents.format}, {contents.bytes:,} bytes"
    console.print(f"[bold]{escape(printable(title))}[/bold]  {escape(printable(contents.description))}".rstrip())
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name, side in (("#", "right"), ("op", "left"), ("reads", "left"), ("makes", "left"), ("scale", "left"),
                       ("constants", "right"), ("MACs", "right")):  # fmt: skip
        table.add_column(name, justify="right" if side == "right" else "left", no_wrap=True)
    for place, op in enumerate(contents.ops):
        table.add_row(*_row(place, op))
    console.print(table)
    peak = peak_memory(contents.ops, contents.inputs, contents.outputs)
    console.print(f"inputs       {_ends(contents.inputs)}", markup=False)
    console.print(f"outputs      {_ends(contents.outputs)}", markup=False)
    console.print(f"constants    {contents.constant_bytes:,} bytes, the rest of the file "
                  f"{contents.bytes - contents.constant_bytes:,}")  # fmt: skip
    console.print(f"arithmetic   {contents.macs:,} multiply-accumulates")
    console.print(f"activations  {peak:,} bytes alive at once, at most")
    if contents.metadata:
        console.print(f"metadata     {printable(', '.join(contents.metadata))}", markup=False)
    console.print(f"as written   {_census(contents.census, contents.format)}", markup=False)
    if contents.runtime_census is not None:
        console.print(f"as run here  {_census(contents.runtime_census, '')}", markup=False)


def _row(place: int, op: Op) -> list[str]:
    made = op.outputs[0] if op.outputs else None
    read = " + ".join(_short(t) for t in op.inputs[:3]) + (f" + {len(op.inputs) - 3} more" * (len(op.inputs) > 3))
    constants = sum(t.bytes for t in op.constants)
    cells = [
        str(place), op.kind, read, _short(made) if made else "", _grid(made) if made else "",
        f"{constants:,}" if constants else "", f"{op.macs:,}" if op.macs else "",
    ]  # fmt: skip
    return [escape(printable(cell)) for cell in cells]


def _short(tensor: Tensor) -> str:
    return f"{tensor.type} {'x'.join(map(str, tensor.shape)) or 'scalar'}"


def _grid(tensor: Tensor) -> str:
    if not tensor.scales:
        return ""
    if len(tensor.scales) == 1:
        return f"{tensor.scales[0]:.6g}, zero {tensor.zero_point}"
    return f"{min(tensor.scales):.3g} to {max(tensor.scales):.3g} ({len(tensor.scales)})"


def _ends(tensors: tuple[Tensor, ...]) -> str:
    return printable(", ".join(f"{t.name.partition(':')[2] or t.name} {_short(t)} {_grid(t)}".strip() for t in tensors))


def _census(found: Census, written: str) -> str:
    """In an ONNX file as written, inner conversions are how a value's grid is told, and no fault."""
    faults = {"float ops": found.float_ops, "transposes": found.transposes, "spatial pads": found.spatial_pads}
    notes = ""
    if written == "onnx":
        notes = f" ({found.quantize} QuantizeLinear and {found.dequantize} DequantizeLinear say the grids)"
    else:
        faults |= {"inner QUANTIZE": found.quantize, "inner DEQUANTIZE": found.dequantize}
    said = ", ".join(f"{count} {name}" for name, count in faults.items() if count) or "all integer, nothing in between"
    if found.requantize:
        notes += f" ({found.requantize} QUANTIZE between 8 and 16 bits)"
    return printable(f"{found.ops} ops: {said}{notes}")
