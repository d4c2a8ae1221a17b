"""Makes a release: judges what is asked for, does the steps that are not done yet, and puts the folder in its place."""

from __future__ import annotations

from collections.abc import Sequence

from cofferdam.cache import remove_tree
from cofferdam.errors import UsageError
from cofferdam.progress import Progress
from cofferdam.release.order import Order, require_key, require_place, require_recipes, require_reports, require_signature
from cofferdam.release.steps import FOLDER, STEPS, VERIFIED, State
from cofferdam.release.work import Job, Outcome, Step, Work, all_jobs, plan_jobs, run_jobs, upto

_SIGNED = (FOLDER, VERIFIED)
"""Steps that need the key."""


def make_release(order: Order, progress: Progress, *, until: str = "", steps: Sequence[Step[State]] = STEPS) -> list[Outcome]:
    """Make a release, or go on with one that was begun.

    Args:
        order: what is asked for.
        progress: where to report.
        until: name of the last step to do; empty for all, and the folder in its place.
        steps: the table.

    Returns:
        What was done, job by job.

    Raises:
        UsageError: it cannot be made; nothing was begun.
        CofferdamError: a step failed; what was done before it is kept for the next run.
    """
    state, jobs = _begin(order, progress, until, steps)
    with state.work.claimed():
        outcomes = run_jobs(jobs, state, state.work, progress, until)
        if not until:
            require_place(order.target)
            (state.work.place(FOLDER) / order.target.name).rename(order.target)
            remove_tree(state.work.directory)
    return outcomes


def plan_release(order: Order, progress: Progress, *, until: str = "", steps: Sequence[Step[State]] = STEPS) -> list[Outcome]:
    """What `make_release` would do; nothing is made.

    Raises:
        UsageError: it cannot be made.
    """
    state, jobs = _begin(order, progress, until, steps, signed=False)
    unsigned = [job for job in jobs if order.key is not None or job.step.name not in _SIGNED]
    planned = plan_jobs(unsigned, state, state.work, until)
    return planned + [Outcome(job.name, job.step.makes, kept=False) for job in upto(jobs, until) if job not in unsigned]


def _begin(
    order: Order, progress: Progress, until: str, steps: Sequence[Step[State]], *, signed: bool = True
) -> tuple[State, list[Job[State]]]:
    """Everything that can be judged before anything is made.

    Raises:
        UsageError, TestsRefusedError, BuildError, ProfileError: see `cofferdam.release.order`.
    """
    names = [step.name for step in steps]
    if until and until not in names:
        raise UsageError(f"--until {until}: there is no such step", hint=f"There are: {', '.join(names)}.")
    require_place(order.target)
    require_recipes(order.profiles, order.formats, order.lock)
    require_reports(order.tests, order.bench, order.source.checkout.commit)
    jobs = all_jobs(steps, order.profiles, order.formats)
    if order.key is not None:
        require_key(order.key)
    elif signed and any(job.step.name in _SIGNED for job in upto(jobs, until)):
        require_signature(None)
    return State(order, Work(order.work), progress), jobs
