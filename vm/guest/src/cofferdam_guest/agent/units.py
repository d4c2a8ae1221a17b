"""When the services of the boot began and were up, as systemd knows it. Asked once, and only when the host wants to know."""

SYSTEMCTL = "/usr/bin/systemctl"
PATTERNS = ("cofferdam-*.service", "containerd.service", "docker.service")
_BEGAN, _UP = "InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic"
_MICROSECONDS = 1e6


def unit_times() -> dict[str, list[float]]:
    """Unit -> [began, up], both in seconds since the kernel started; empty when systemd does not answer."""
    import subprocess  # noqa: TID251 - the guest has no runner; it is too slow to import at boot

    command = [SYSTEMCTL, "show", f"--property=Id,{_BEGAN},{_UP}", *PATTERNS]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return parse(done.stdout.decode(errors="replace"))


def parse(text: str) -> dict[str, list[float]]:
    """Read what `systemctl show` prints: one block of `Key=Value` lines for each unit; those that never came up are left out."""
    times = {}
    for block in text.split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        began, up = (int(values[key]) if values.get(key, "").isdecimal() else 0 for key in (_BEGAN, _UP))
        if began and up:
            times[values.get("Id", "")] = [began / _MICROSECONDS, up / _MICROSECONDS]
    return times
