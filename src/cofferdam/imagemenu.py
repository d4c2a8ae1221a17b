"""The part of the menu that is about updates; `tasks.py` takes it in."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from cofferdam.menu import JSON, NAME, QUIET, verb, working

_UPDATE = {
    "name": NAME,
    "image": "folder of a release, or latest for what was built here; default: that, unless the instance boots a release",
    "from": "the release in a registry, HOST/NAME:VERSION",
    "key": "allowed_signers file of who makes the releases",
    "snapshot": "copy the data disk before",
    "allow-downgrade": "also to an older version",
    "json": JSON,
    "quiet": QUIET,
}


@task(help=_UPDATE)
@working
@verb
def update(
    _: Context,
    name: str = "default",
    image: str = "",
    from_: str = "",
    key: str = "",
    snapshot: bool = False,
    allow_downgrade: bool = False,
    json: bool = False,
) -> None:
    """Boot another image with the same data disk; goes back by itself when it does not work.  Example: inv update --image DIR"""
    from cofferdam import imageverbs

    options = {"allow_downgrade": allow_downgrade, "snapshot": snapshot, "as_json": json}
    imageverbs.update(name, image=image, registry=from_, key=key, **options)


@task(help={"name": NAME, "json": JSON, "quiet": QUIET})
@working
@verb
def rollback(_: Context, name: str = "default", json: bool = False) -> None:
    """Go back to the image before the latest update, with the same data disk.  Example: inv rollback --name work"""
    from cofferdam import imageverbs

    imageverbs.rollback(name, as_json=json)


UPDATE_TASKS = (update, rollback)
