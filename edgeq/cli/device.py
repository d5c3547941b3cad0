"""`edgeq device`, `edgeq devices`: what there is, what it lacks, and putting that on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeq.cli.options import SECONDS, program_option
from edgeq.cli.shell import Shell, echo, print_json, say

__all__ = ["device", "devices", "emulator", "probe", "provision"]

_json = click.option("--json", "as_json", is_flag=True, help="print as JSON")
_wait = click.option("--wait", type=SECONDS, default=0.0, metavar="SECONDS", help="wait that long for a busy device")

device = Shell(
    "device",
    {
        "Commands": {
            "probe": "edgeq.cli.device:probe",
            "provision": "edgeq.cli.device:provision",
            "emulator": "edgeq.cli.device:emulator",
        }
    },
    help="""Look at a device, put a runtime on it, or make an emulated one.

    \b
    edgeq device probe pi@raspberrypi
    edgeq device provision pi@raspberrypi --runtime litert
    edgeq device emulator --create
    """,
)


@click.command()
@_json
def devices(as_json: bool) -> None:
    """List what --device takes, the Android devices adb knows, and whether the emulated Arm exists on this machine.

    \b
    edgeq devices
    edgeq devices --json
    """
    from edgeq.device.transport import TRANSPORTS

    listed = [device for kind in TRANSPORTS.entries() for device in kind.listed()]
    if as_json:
        print_json([{"name": one.name, "description": one.description, "ready": one.ready} for one in listed])
        return
    width = max(len(one.name) for one in listed)
    for one in listed:
        missing = f"  ({one.remedy})" if one.ready is False else ""
        echo(f"{one.name.ljust(width)}  {one.description}{missing}")


@click.command()
@click.argument("name", metavar="DEVICE")
@program_option
@_json
@_wait
def probe(name: str, program: Path | None, as_json: bool, wait: float) -> None:
    """Say what DEVICE is, which runtimes load there, and how to get what is missing. Exit 4 when it can run none.

    \b
    edgeq device probe pi@raspberrypi
    edgeq device probe adb
    """
    from edgeq.device.job import probe as look
    from edgeq.device.open import full_name, open_device, transport_of
    from edgeq.device.provision import plan

    name = full_name(name)
    facts: dict[str, Any] = {}
    for runtime in transport_of(name).environments:
        with open_device(name, runtime=runtime, patience=wait) as opened:
            found = look(opened, program=program)
        if facts:
            found["runtimes"] = {
                key: value if value["works"] else facts["runtimes"][key] for key, value in found["runtimes"].items()
            }
        facts = found
    steps = plan(name, facts)
    if as_json:
        print_json(facts | {"plan": steps})
    else:
        _show(name, facts, steps)
    if steps:
        click.get_current_context().exit(4)


@click.command()
@click.argument("name", metavar="DEVICE")
@click.option("--runtime", default="litert", show_default=True, help="litert, tflite-runtime or onnxruntime")
@_wait
def provision(name: str, runtime: str, wait: float) -> None:
    """Put a runtime and its numpy into edgeq's folder on DEVICE, which needs Python, but no pip and no internet.

    \b
    edgeq device provision pi@raspberrypi
    edgeq device provision pi@raspberrypi --runtime onnxruntime
    """
    from edgeq.device.job import probe as look
    from edgeq.device.open import open_device
    from edgeq.device.provision import provision as put

    with open_device(name, runtime=runtime, patience=wait) as opened:
        folder = put(opened, look(opened), runtime)
        works = look(opened)["runtimes"][runtime]
    if not works["works"]:
        from edgeq.errors import NoRuntimeError

        raise NoRuntimeError(f"{runtime} does not load on the device", where=name, why=works["why"])
    say(f"{works['version']} with numpy {works['numpy']} in {folder}")


@click.command()
@click.option("--create", is_flag=True, help="fetch Debian's arm64 Python, QEMU and the aarch64 wheels; no root needed")
@_json
def emulator(create: bool, as_json: bool) -> None:
    """Say where the emulated Arm of this machine is, or make one.

    \b
    edgeq device emulator
    edgeq device emulator --create
    """
    from edgeq.device.userland import create_userland, find_userland

    userland = create_userland(lambda part: say(f"fetching {part}")) if create else find_userland()
    if as_json:
        print_json({"folder": str(userland.folder)})
    else:
        echo(f"{userland.folder}\nuse it with --device emulator:cortex-a72 or --device emulator:cortex-a76")


def _show(name: str, facts: dict[str, Any], steps: list[str]) -> None:
    machine = facts["machine"]
    pretends = f", emulated {machine['emulated']}" if machine["emulated"] else ""
    model = f"{machine['model']}, " if machine.get("model") else ""
    echo(f"{name}: {model}{machine['cpu']}, {machine['architecture']}, {machine['cores']} cores{pretends}")
    runs = f"Python {machine['python']}" if machine["python"] else ", ".join(machine["abis"])
    echo(f"  {machine['system']}, {machine['libc']}, {runs}")
    free = "free space not known" if facts["free_bytes"] is None else f"{facts['free_bytes'] / 2**30:.1f} GiB free"
    echo(f"  {free}, fastest cores {machine['big_cores'] or 'not known'}")
    if not machine["dot_product"]:
        echo("  no dot-product instructions: int8 may not beat float here")
    for runtime, found in facts["runtimes"].items():
        beside = f", numpy {found['numpy']}" if found["numpy"] else ""
        state = f"{found['version']}{beside}" if found["works"] else f"no: {found['why']}"
        echo(f"  {runtime.ljust(14)}  {state}")
    for step in steps:
        echo(f"missing: {step}")
