"""The exceptions of this package. Each message is one sentence or two for a person to act on.

ServingError
├── PrerequisiteError   this machine cannot run the embedded server as asked
├── StartError          tritonserver did not become ready
└── PublishError        an artifact was refused; the repository is as it was
"""


class ServingError(Exception):
    """Anything this package refuses or fails to do."""


class PrerequisiteError(ServingError):
    """This machine, or the settings given, cannot run the embedded server."""


class StartError(ServingError):
    """tritonserver ended, or did not answer in time, before it was ready."""


class PublishError(ServingError):
    """An artifact was refused. The repository was not touched."""
