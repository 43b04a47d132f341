"""The exceptions of this package. Each message is one sentence or two for a person to act on.

ServingError
├── PrerequisiteError   this machine cannot run the embedded server as asked
├── StartError          tritonserver did not become ready
│   └── SlowStartError      in the time that it was given
├── PublishError        a release was refused; the repository is as it was
│   └── RefusedError        by a trial: the artifact is worse, slower or makes no sense
├── EvaluationError     an evaluation set cannot be used
├── CompareError        nothing to compare: no such model, no server, no photos
├── TuneError           no settings found: no photos, a target that none meets
├── DriftError          Prometheus, or a reference, does not give figures to judge
│   └── UntoldError         they are too few to tell, or not to be compared
└── StoreError          the place where a model repository lies did not do what was asked
    ├── MissingFileError    it has no such file
    ├── DamagedFileError    a network is not the one that was published
    └── BusyError           somebody else is changing the repository
"""

from tritonclient.utils import InferenceServerException


class ServingError(Exception):
    """Anything this package refuses or fails to do."""

    exit_code = 1


class PrerequisiteError(ServingError):
    """This machine, or the settings given, cannot run the embedded server."""


class StartError(ServingError):
    """tritonserver ended, or did not answer in time, before it was ready."""


class SlowStartError(StartError):
    """tritonserver did not answer in time. Who started it knows how to give it longer."""


class PublishError(ServingError):
    """A release was refused or failed. The repository is as it was."""


class RefusedError(PublishError):
    """The artifact did not pass a trial, and would not if it were tried again."""

    exit_code = 3


class EvaluationError(ServingError):
    """An evaluation set cannot be used."""


class CompareError(ServingError):
    """There is nothing to compare: no such model, no server, no photos."""


class TuneError(ServingError):
    """No settings were found: no photos, or a target that none meets. Nothing was written."""


class DriftError(ServingError):
    """The figures to judge cannot be had: from Prometheus, or of the reference."""


class UntoldError(DriftError):
    """Nothing can be told from the figures, neither a drift nor that there is none."""


class StoreError(ServingError):
    """A store is away, too slow, denies access, or has not what was asked for."""


class MissingFileError(StoreError):
    """The repository has no such file."""


class DamagedFileError(StoreError):
    """A version's file is not the one that was published under its number."""


class BusyError(StoreError):
    """Somebody else holds the repository's lock."""


def first_line(error: BaseException) -> str:
    """What an error says, without the stack trace that a server or a library adds."""
    told = error.message() if isinstance(error, InferenceServerException) else str(error)
    return next(iter(str(told).strip().splitlines()), type(error).__name__)
