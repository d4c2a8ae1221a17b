"""Image recipes: TOML files in `profiles/`, one level of include, every key checked."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cofferdam.errors import ProfileError
from cofferdam.paths import ROOT


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KernelProfile(_Model):
    """What the kernel is made from."""

    fragments: list[str] = Field(min_length=1, description="stems of files in vm/kernel-config, merged in this order")
    suites: list[str] = Field(min_length=1, description="Debian suites asked for linux-source, first one first")


class RootProfile(_Model):
    """How the root file system is made."""

    suite: str = "trixie"
    compression: str = "lz4hc"


class Profile(_Model):
    """One image recipe, resolved."""

    name: str
    description: str
    include: str | None = None
    isolation: Literal["kernel", "none"]
    ssh: bool = False
    packages: list[str] = Field(min_length=1, description="topics: vm/rootfs/packages/TOPIC.list")
    overlays: list[str] = Field(min_length=1, description="directories in vm/rootfs/overlay, later ones win")
    cmdline: list[str] = Field(default_factory=list, description="words added to the kernel command line")
    policy: str = Field(default="policies/default.json", description="policy baked into the image, a file relative to profiles/")
    kernel: KernelProfile
    root: RootProfile = RootProfile()


def profile_names(directory: Path | None = None) -> list[str]:
    """Names of the profiles there are."""
    return sorted(path.stem for path in (directory or ROOT / "profiles").glob("*.toml"))


def load_profile(name: str, directory: Path | None = None) -> Profile:
    """Load, include, validate.

    Args:
        name: the profile's name, that of its file without `.toml`.
        directory: where profiles lie; the project's own when not given.

    Raises:
        ProfileError: no such profile, broken TOML, unknown key, wrong type, or an include that includes.
    """
    directory = directory or ROOT / "profiles"
    path, data = _read(name, directory)
    if (base_name := data.get("include")) is not None:
        base_path, base = _read(str(base_name), directory)
        if "include" in base:
            raise ProfileError(
                f"{path}: key `include`: {base_path.name} includes another profile", hint="Only one level of include is allowed."
            )
        data = _merge(base, data)
    try:
        return Profile.model_validate({**data, "name": name})
    except ValidationError as error:
        raise ProfileError(_explain(path, error), hint=f"See `inv profile {name}` and docs/profiles.md.") from error


def _read(name: str, directory: Path) -> tuple[Path, dict[str, Any]]:
    path = directory / f"{name}.toml"
    known = profile_names(directory)
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        raise ProfileError(
            f"there is no profile `{name}` in {directory}",
            hint=f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(known)}.",
        )
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: {error}", hint="Correct the file; it must be TOML in UTF-8.") from error


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Tables merge; `KEY_add` appends to the base's list; everything else replaces."""
    result = dict(base)
    for key, value in over.items():
        stem = key.removesuffix("_add")
        if key.endswith("_add") and isinstance(value, list) and isinstance(result.get(stem, []), list):
            result[stem] = [*result.get(stem, []), *value]
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _merge(result[key], value)
        else:
            result[key] = value
    return result


_FIELDS: dict[str, type[BaseModel]] = {"": Profile, "kernel": KernelProfile, "root": RootProfile}


def _explain(path: Path, error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        text = f"{path}: key `{where}`: {problem['msg']}"
        if problem["type"] == "extra_forbidden":
            table, _, last = where.rpartition(".")
            near = difflib.get_close_matches(last, _FIELDS.get(table, Profile).model_fields, 1, cutoff=0.5)
            text = f"{path}: unknown key `{where}`" + (f"; did you mean `{near[0]}`?" if near else "")
        lines.append(text)
    return "\n".join(lines)
