"""The machine's clock, set right by the host: it stands still while the host sleeps or QEMU holds the machine."""

import time

BEHIND = 1.0
AHEAD = 5.0
# What a 32-bit unsigned time can say; anything else is no time of day.
_LATEST = 2**32


def adjust(seconds: object) -> bool:
    """Step the clock to the host's time when it is off; whether it was stepped.

    Args:
        seconds: the host's time, in seconds since 1970 UTC, as it came from the host; what is no time is ignored.

    A message takes its time, never less than none: it makes this clock look ahead, never behind. So it may be `AHEAD` seconds
    ahead, and only `BEHIND` behind.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < _LATEST:
        return False
    if -BEHIND <= time.clock_gettime(time.CLOCK_REALTIME) - seconds <= AHEAD:
        return False
    time.clock_settime(time.CLOCK_REALTIME, seconds)
    return True
