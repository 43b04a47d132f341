"""Loads what changed in a watched repository; what does not load leaves the old one serving."""

from collections.abc import Callable
from functools import partial

from google.protobuf import json_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

from client.versions import wanted_versions
from serving import lines
from serving.control import Control
from serving.errors import ServingError, first_line
from serving.server.plan import Report
from serving.server.watch import Changes, Watch


class Reload:
    """What changed, brought into a running server.

    Args:
        control: the server.
        watch: knows the repository's files.
        report: takes a line for each model.
    """

    def __init__(self, control: Control, watch: Watch, report: Report) -> None:
        self._control = control
        self._watch = watch
        self._report = report

    def apply(self, changes: Changes) -> None:
        """Load what changed and unload what is gone.

        The order matters where several models change at once, for example when a canary is
        promoted: an ensemble must never ask for a version that is not served. So before ensembles
        change, their models serve what both the old and the new ones ask for, and only afterwards
        no more than their files say. (Loading an ensemble makes Triton load what changed in its
        models first, which for a moment leaves the old one without its version.)
        """
        ensembles = {m for m in [*changes.changed, *changes.gone] if self._is_ensemble(m)}
        others = [model for model in changes.changed if model not in ensembles]
        self._unload([model for model in changes.gone if model in ensembles])
        narrow = {model: self._widen(model) for model in others if ensembles}
        for model in [*(m for m in changes.changed if m in ensembles), *others]:
            failed = f"{model} was not loaded, the old one goes on"
            load = partial(self._control.load, config=narrow.get(model, ""))
            self._try(f"loaded {model} anew", failed, load, model)
        self._unload([model for model in changes.gone if model not in ensembles])
        for model, version in changes.arrived.items():
            self._report_unserved(model, version)

    def _widen(self, model: str) -> str:
        """Have a model serve what it serves now as well as what its file asks for.

        Returns:
            The file as JSON, to be loaded in the end; empty where nothing was widened.
        """
        try:
            folders = self._watch.versions(model)
            served = {n for n in folders if self._control.has_version(model, str(n))}
            config = self._watch.config(model)  # afterwards: a publisher may begin in between
            asked = wanted_versions(config, folders)
            if served <= asked:
                return ""
            wide = ModelConfig()
            wide.CopyFrom(config)
            wide.version_policy.specific.versions[:] = sorted(served | asked)
            self._control.load(model, config=_to_json(wide))
        except (ServingError, InferenceServerException):  # the load that follows tells why
            return ""
        return _to_json(config)

    def _unload(self, models: list[str]) -> None:
        for model in models:
            self._try(f"unloaded {model}", f"{model} stays loaded", self._control.unload, model)

    def _is_ensemble(self, model: str) -> bool:
        """Whether the model runs now and is an ensemble, though its folder may be gone."""
        try:
            return bool(self._control.config(model).platform == "ensemble")
        except InferenceServerException:
            return False

    def _report_unserved(self, model: str, version: int) -> None:
        """After a rollback a newer version is not served by itself: say so."""
        try:
            policy = self._control.config(model).version_policy
        except InferenceServerException:  # it did not load, which has been said
            return
        served = list(policy.specific.versions)
        if served and version not in served:
            told = (
                f"{model} version {version} is not served, {model}/config.pbtxt asks for "
                f"{', '.join(map(str, served))}: `python -m serving promote {version}` serves it"
            )
            self._report(lines.warning(told))

    def _try(self, done: str, failed: str, call: Callable[[str], None], model: str) -> None:
        try:
            call(model)
        except InferenceServerException as error:
            self._report(lines.error(f"{failed}: {first_line(error)}"))
        else:
            self._report(done)


def _to_json(config: ModelConfig) -> str:
    """A model's configuration as Triton's load call takes it."""
    return json_format.MessageToJson(config, preserving_proto_field_name=True)
