"""Completion of the launcher's verbs, options and values on a shell's command line; Invoke lists the verbs and options itself."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from cofferdam.errors import UsageError
from cofferdam.machine.settings import BootSettings
from cofferdam.template import render

_DIRECTORY = Path(__file__).with_name("shell")
# The templates whose texts, one after the other, are the script; zsh runs bash's.
SHELLS = {"bash": ("inv.bash.j2",), "zsh": ("inv.zsh.j2", "inv.bash.j2"), "fish": ("inv.fish.j2",)}


def completion_script(shell: str) -> str:
    """The script that a shell loads to complete `inv` and `./inv`.

    Raises:
        UsageError: there is none for that shell.
    """
    if shell not in SHELLS:
        raise UsageError(f"there is no completion for `{shell}`", hint=f"There is one for {', '.join(SHELLS)}.")
    accelerators = get_args(BootSettings.model_fields["accel"].annotation)
    return "\n".join(render(_DIRECTORY / name, accelerators=accelerators, shells=list(SHELLS)) for name in SHELLS[shell])
