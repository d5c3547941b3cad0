"""`edgeq device`, `edgeq devices`: what there is, what it lacks, and putting that on it."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli.options import SECONDS, program_option
from edgeq.cli.shell import Shell, columns, echo, print_json, say
from edgeq.errors import ConfigError

if TYPE_CHECKING:
    from edgeq.device.leases import Record

__all__ = ["device", "devices", "emulator", "lease", "leases", "probe", "provision", "release"]

_json = click.option("--json", "as_json", is_flag=True, help="print as JSON")
_wait = click.option(
    "--wait", type=SECONDS, default=0.0, metavar="TIME", help="wait that long for a busy device, such as 10m"
)

device = Shell(
    "device",
    {
        "Commands": {
            "probe": "edgeq.cli.device:probe",
            "provision": "edgeq.cli.device:provision",
            "lease": "edgeq.cli.device:lease",
            "release": "edgeq.cli.device:release",
            "list": "edgeq.cli.device:leases",
            "emulator": "edgeq.cli.device:emulator",
        }
    },
    help="""Look at a device, put a runtime on it, lease it, or make an emulated one.

    \b
    edgeq device probe pi@raspberrypi
    edgeq device provision pi@raspberrypi --runtime litert
    edgeq device lease pi@raspberrypi --for 30m --why "looking at heat"
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
        with open_device(name, runtime=runtime, patience=wait, why="edgeq device probe", say=say) as opened:
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

    with open_device(name, runtime=runtime, patience=wait, why="edgeq device provision", say=say) as opened:
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


@click.command()
@click.argument("name", metavar="DEVICE")
@click.option("--for", "seconds", type=SECONDS, default=1800.0, metavar="TIME", help="how long [default: 30m]")
@_wait
@click.option("--why", default="", metavar="TEXT", help="what others are told who want it")
@_json
def lease(name: str, seconds: float, wait: float, why: str, as_json: bool) -> None:
    """Keep everybody else off DEVICE for a while. What you run on it from this machine goes on as usual.

    \b
    edgeq device lease pi@pi5-01 --for 30m --why "looking at heat"
    edgeq device lease adb:R58M1 --for 2h --wait 10m
    """
    from edgeq.device.leases import LONGEST
    from edgeq.device.open import open_device, transport_of

    if not 1 <= seconds <= LONGEST:
        raise ConfigError("--for takes between 1s and 168h", hint="edgeq device lease DEVICE --for 30m")
    if not transport_of(name).shared:
        raise ConfigError(f"{name} cannot be leased", why="no other machine uses it", hint="lease a board or a phone")
    with open_device(name, patience=wait, why=why, reserve=seconds, say=say) as opened:
        record, notes = opened.held.record, opened.held.notes()
    if record is None:  # its transport is of no board after all
        raise ConfigError(f"{name} cannot be leased", hint="edgeq devices shows what can")
    for note in notes:
        say(note)
    if as_json:
        print_json(_lease_facts(record))
    else:
        echo(f"{record.device} is yours until {record.until}; edgeq device release {record.device} ends it")


@click.command()
@click.argument("name", metavar="DEVICE")
@click.option("--force", is_flag=True, help="also where somebody else holds it")
def release(name: str, force: bool) -> None:
    """End your lease of DEVICE before its time.

    \b
    edgeq device release pi@pi5-01
    """
    from edgeq.device.exclusive import end_lease, open_leases
    from edgeq.device.open import open_device
    from edgeq.device.transport import cache_folder
    from edgeq.errors import DeviceBusyError

    opened, known = open_device(name), open_leases(cache_folder())
    record = known.find(opened.name)
    if record is None:
        raise ConfigError(f"{opened.name} is not leased", hint="edgeq device list shows what is")
    if not (force or (known.is_mine(record) and record.by_hand)):
        raise DeviceBusyError(f"{opened.name} is leased", why=record.holder, hint="--force ends it all the same")
    end_lease(opened, cache_folder(), record)
    echo(f"{opened.name} is free")


@click.command("list")
@_json
def leases(as_json: bool) -> None:
    """Show which boards are leased: by whom, until when, and why. EDGEQ_CACHE names the store that a team shares.

    \b
    edgeq device list
    edgeq device list --json
    """
    from edgeq.device.exclusive import open_leases
    from edgeq.device.transport import cache_folder

    records = open_leases(cache_folder()).records()
    if as_json:
        print_json([_lease_facts(record) for record in records])
        return
    if not records:
        echo("no board is leased")
        return
    rows = [["device", "holder", "since", "until", "why"]]
    rows += [[r.device, r.who, r.since, _until(r), r.why or "-"] for r in records]
    columns(rows)


def _until(record: Record) -> str:
    """When it ends, in words. By this machine's clock, which decides nothing."""
    if record.until is None:
        return "its command ends"
    over = record.until < datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return record.until + (" (over)" if over else "")


def _lease_facts(record: Record) -> dict[str, Any]:
    names = ("device", "who", "since", "until", "why", "by_hand")
    return {name: getattr(record, name) for name in names}


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
