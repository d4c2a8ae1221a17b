"""The images of an instance: what it boots, what it goes back to, and how far an update is. One file, replaced as a whole.

An update is `planned`, then `booted`, then `confirmed` or `rolled back`. Which image is booted next depends on no other file: it
is `current` until the update is confirmed, and the new one from then on, whatever was killed in between.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, ValidationError

from cofferdam.errors import InstanceError
from cofferdam.machine.disk import sync_directory
from cofferdam.machine.hostos import write_json
from cofferdam.machine.imageref import ImageRef
from cofferdam.machine.instance import Instance

IMAGES = "images.json"


class Step(StrEnum):
    """How far an update is."""

    PLANNED = "planned"  # it has begun: from here on the new image may run, or have run
    BOOTED = "booted"  # Docker answered in the new image
    CONFIRMED = "confirmed"  # the self-test was passed: the new image is the one that boots
    ROLLED_BACK = "rolled back"  # the former one is, as before


OPEN = (Step.PLANNED, Step.BOOTED)
"""An update in one of these is under way, or its command was killed."""


class Update(BaseModel):
    """The latest update.

    Attributes:
        step: how far it is.
        image: the new image.
        reason: why it was rolled back.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    step: Step
    image: ImageRef
    reason: str = ""


class Kept(BaseModel):
    """The images that an instance refers to.

    Attributes:
        current: the one that it booted last, and with which it is known to work.
        pinned: whether it boots that one again; else the latest that was built of the profile.
        former: the one before.
        update: the latest update; none after an ordinary boot.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    current: ImageRef | None = None
    pinned: bool = False
    former: ImageRef | None = None
    update: Update | None = None

    @property
    def under_way(self) -> Update | None:
        """The update that has neither been confirmed nor rolled back."""
        return self.update if self.update is not None and self.update.step in OPEN else None

    def references(self) -> list[ImageRef]:
        """All images that must not be removed."""
        new = self.under_way.image if self.under_way is not None else None
        return [each for each in (self.current, self.former, new) if each is not None]

    def after_boot(self, image: ImageRef, *, follow: bool = False) -> Kept:
        """What holds after an ordinary boot of an image.

        An installed one is booted again, as is one that an update or a rollback chose; any other gives way to the next that is
        built.

        Args:
            follow: give way in any case.
        """
        same = _same(self.current, image)
        former = self.former if same else self.current
        pinned = not follow and (image.installed or (self.pinned and same))
        return Kept(current=image, pinned=pinned, former=former)

    def planned(self, image: ImageRef) -> Kept:
        """What holds when an update begins."""
        return self.model_copy(update={"update": Update(step=Step.PLANNED, image=image)})

    def booted(self) -> Kept:
        """What holds when Docker has answered in the new image."""
        return self._stepped(Step.BOOTED)

    def confirmed(self) -> Kept:
        """What holds when the new image has passed its self-test."""
        done = self._stepped(Step.CONFIRMED)
        assert done.update is not None
        return done.model_copy(update={"current": done.update.image, "former": self.current, "pinned": True})

    def rolled_back(self, reason: str) -> Kept:
        """What holds when the new image is not to be used: the former is booted again, also when a newer one was built."""
        return self._stepped(Step.ROLLED_BACK, reason).model_copy(update={"pinned": True})

    def _stepped(self, step: Step, reason: str = "") -> Kept:
        assert self.update is not None
        return self.model_copy(update={"update": self.update.model_copy(update={"step": step, "reason": reason})})


def _same(one: ImageRef | None, other: ImageRef) -> bool:
    return one is not None and one.directory == other.directory


def read_kept(instance: Instance) -> Kept:
    """The images of an instance.

    Raises:
        InstanceError: the file is damaged.
    """
    path = instance.directory / IMAGES
    try:
        return Kept.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Kept()
    except (ValidationError, UnicodeDecodeError) as error:
        hint = "Remove the file; then `inv boot --image DIR` says what to boot."
        raise InstanceError(f"{path} is damaged: {error}", hint=hint) from error


def write_kept(instance: Instance, kept: Kept) -> None:
    """Store the images of an instance, on the host's disk when this returns. The caller holds the claim."""
    write_json(instance.directory / IMAGES, kept.model_dump(mode="json"))
    sync_directory(instance.directory)
