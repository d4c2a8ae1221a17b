"""How two paths lie to each other, as texts: neither the kernel nor a file is asked."""


def is_below(path: str, top: str) -> bool:
    """Tell whether `path` is `top` or something below it; both absolute and without `.` or `..`."""
    return path == top or path.startswith(top.rstrip("/") + "/")
