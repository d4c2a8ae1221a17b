"""What the verbs of everyday use do (timings, diagnose, denied, page), between `tasks.py` and the modules behind it."""

from __future__ import annotations

import os
from pathlib import Path

from cofferdam.errors import HostError, InstanceError, UsageError
from cofferdam.machine import denied as denials
from cofferdam.machine.hostos import write_private
from cofferdam.machine.instance import Instance
from cofferdam.plot import Bar, bars_svg
from cofferdam.timings import Timings, read_timings
from cofferdam.verbs import show, show_json

_WRITABLE = "Name a file in a directory that you can write."


def timings(name: str, *, as_json: bool = False, plot: str = "") -> None:
    """Show where the time of a running instance's boot went, and draw it into an SVG file when one is named.

    Raises:
        InstanceError: it does not run.
        UsageError: the file cannot be written.
    """
    found = read_timings(Instance(name))
    if plot:
        write_output(Path(plot), chart(found))
    if as_json:
        show_json(found.as_dict())
    else:
        show([*found.lines(), *plotted(plot)])


def plotted(plot: str) -> list[str]:
    """The line that names the file of a chart, if one was wanted."""
    return [f"plot         {plot}"] if plot else []


def chart(found: Timings) -> str:
    """The stages as a bar chart (SVG), each with the seconds that it adds."""
    title = f"Boot of {found.instance} ({found.profile}, {found.accelerator}): {found.ready:.1f} s"
    return bars_svg(title, [Bar(stage.name, stage.start, stage.end, f"+{stage.adds:.2f} s") for stage in found.stages])


def diagnose(name: str, out: str = "") -> None:
    """Write the archive for a bug report and show what is in it; the file is `cofferdam-NAME.tar.gz` when none is named.

    Raises:
        UsageError: it cannot be written.
    """
    from cofferdam.diagnose import archive

    path = Path(out or f"cofferdam-{name}.tar.gz")
    data, lines = archive(Instance(name))
    write_output(path, data)
    show([*lines, f"archive        {path}", "next           look through it, then attach it to the report"])


def denied(name: str, *, follow: bool = False, as_json: bool = False) -> None:
    """Show what an instance refused; with `follow` go on with what it refuses now, in JSON one object a line.

    Raises:
        InstanceError: there is no such instance.
    """
    instance = Instance(name)
    if not instance.directory.is_dir():
        raise InstanceError(f"there is no instance `{name}`", hint="`inv list` shows those there are.")
    if follow:
        show(each.model_dump_json() if as_json else each.line() for each in denials.follow(instance))
        return
    found = denials.read(instance.denied)
    if as_json:
        show_json([each.model_dump() for each in found])
    else:
        show([each.line() for each in found] or "nothing was refused so far; `--follow` waits for it")


def page(name: str, port: str = "", *, open_it: bool = False) -> None:
    """Serve the status page of a running instance until it ends, or the user does.

    Raises:
        UsageError: that is no port.
        HostError: what serves pages is not installed.
        InstanceError: the instance does not run, or the port is in use.
    """
    if port and not (port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535):
        raise UsageError(f"--port {port}: not a port", hint="Give a number from 1 to 65535, or leave it out for a free one.")
    try:
        from cofferdam.page.serve import serve
    except ModuleNotFoundError as error:
        raise HostError(f"the page needs the Python package {error.name}", hint="pip install --editable '.[page]'") from error
    serve(name, int(port or 0), open_it=open_it)


def check_output(path: Path) -> None:
    """Refuse a file that the user named, before the work whose result it is for.

    Raises:
        UsageError: `write_output` could not write it.
    """
    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        why = "it is a directory" if path.is_dir() else f"{path.parent} is no directory that can be written to"
        raise UsageError(f"{path} cannot be written: {why}", hint=_WRITABLE)


def write_output(path: Path, content: str | bytes) -> None:
    """Write a file that the user named.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        write_private(path, content)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", hint=_WRITABLE) from error
