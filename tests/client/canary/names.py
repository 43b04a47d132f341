"""The ensembles of a trial, and what its configuration says."""

from client.canary import Canary

STABLE, CANARY = "ensemble", "ensemble_canary"
ALL = {"canary_version": "7", "canary_share": "1"}


def at(share: float, version: str = "7") -> Canary:
    return Canary(STABLE, version, share)
