"""`serving promote` and `serving rollback`: another version, already placed, becomes live."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from serving.errors import PublishError
from serving.release.rollout import Rollout
from serving.release.session import (
    KEEP,
    ReleaseSettings,
    lock_store,
    open_session,
    print_done,
    remove_old_versions,
)
from serving.repository import State

VERSION = tyro.conf.arg(metavar="VERSION", help_behavior_hint="")


@dataclass(frozen=True, kw_only=True)
class PromoteSettings(ReleaseSettings):
    """Make the canary, or a version that is there, live."""

    version: Annotated[int | None, tyro.conf.Positional, VERSION] = None
    """Version to make live; none: the canary."""
    keep: int = KEEP
    """Versions that stay. The live one, the one before it and pinned ones stay in any case."""


@dataclass(frozen=True, kw_only=True)
class RollbackSettings(ReleaseSettings):
    """End the canary; without one, make the version live that was so before."""

    version: Annotated[int | None, tyro.conf.Positional, VERSION] = None
    """Version to go back to; none: the one before. Without a canary only."""


def promote(settings: PromoteSettings, why: str = "") -> None:
    """Make a version live. Prints what was done.

    Args:
        settings: which, and where.
        why: what decided, for the record; empty where a person did.

    Raises:
        ServingError: nothing was changed.
    """
    with lock_store(settings, "promote") as store, open_session(store, settings) as rollout:
        before = rollout.state()
        version = settings.version if settings.version is not None else before.canary
        if version is None:
            raise PublishError(f"{settings.model} has no canary to promote: name a version")
        if before.canary not in (None, version):
            raise PublishError(f"version {before.canary} is a canary: promote or roll back that")
        _make_live(rollout, settings, before, version, why=why)
        remove_old_versions(rollout, settings.keep)


def rollback(settings: RollbackSettings, why: str = "") -> None:
    """End the canary, or go back a version. Prints what was done.

    Args:
        settings: to which, and where.
        why: what decided, for the record; empty where a person did.

    Raises:
        ServingError: nothing was changed.
    """
    with lock_store(settings, "rollback") as store, open_session(store, settings) as rollout:
        before, version = rollout.state(), settings.version
        if before.canary is None:
            version = _find_version_before(rollout, before.live) if version is None else version
            _make_live(rollout, settings, before, version, back=True)
        elif version is None:
            rollout.move(before, State(before.live), why=why)
            done = f"the canary, version {before.canary}, has ended, version {before.live} is live"
            print_done(rollout, done)
        else:
            raise PublishError(f"version {before.canary} is a canary: roll back that first")


def _make_live(
    rollout: Rollout,
    settings: ReleaseSettings,
    before: State,
    version: int,
    back: bool = False,
    why: str = "",
) -> None:
    """Make a version live that is there and is not live."""
    there = rollout.repository.versions()
    if version not in there:
        raise PublishError(
            f"{settings.repository} has no version {version} of {rollout.task.network}, only "
            f"{', '.join(map(str, there))}"
        )
    if version == before.live:
        raise PublishError(f"version {version} is live already")
    rollout.move(before, State(version), back=back, why=why)
    print_done(rollout, f"version {version} is live, before it {before.live}")


def _find_version_before(rollout: Rollout, live: int) -> int:
    """The version that was live before this one."""
    lived = list(rollout.record.lived)
    if lived[-1:] == [live]:  # else it was copied in
        del lived[-1]
    there = rollout.repository.versions()
    known = [version for version in lived if version in there and version != live]
    known = known or [version for version in there if version < live]
    if not known:
        raise PublishError(
            f"no version was live before {live}: name one of {', '.join(map(str, there))}"
        )
    return known[-1]
