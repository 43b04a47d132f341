"""One tritonserver that runs: its process, the connection to it, and what it has loaded."""

import time
from collections import Counter
from dataclasses import dataclass

from tritonclient.utils import InferenceServerException

from serving.control import Control
from serving.served import Loaded
from serving.server.process import Stub, TritonProcess

TRITON_EXIT_SECONDS = 5  # what tritonserver itself may take to end; it waits for dead stubs in vain


@dataclass(frozen=True)
class Running:
    """A process and the connection to it, from one start to its end.

    What asks the server raises InferenceServerException.
    """

    process: TritonProcess
    control: Control

    def ready_models(self) -> list[str]:
        """The names of the models that are ready."""
        return list(dict.fromkeys(self.control.loaded()))

    def loaded(self) -> Loaded:
        """What it has ready. A model that vanishes meanwhile is no trouble."""
        versions, configs = self.control.loaded_versions(), {}
        for name in versions:
            try:
                configs[name] = self.control.config(name)
            except InferenceServerException:
                if name in self.ready_models():
                    raise
        return Loaded(self.control.triton_version(), configs, versions)

    def photo_models(self) -> list[str]:
        """The ensembles that take photos."""
        return self.loaded().photo_models()

    def ensembles(self) -> set[str]:
        """All ensembles."""
        configs = self.loaded().configs
        return {name for name, config in configs.items() if config.platform == "ensemble"}

    def stubs_of(self, model: str) -> list[Stub]:
        """The living stubs of a model."""
        names = self.ready_models()
        return [stub for stub in self.process.stubs() if stub.model(names) == model]

    def broken_models(self) -> list[str]:
        """Models that lack a stub, seen twice: one being exchanged looks so for a moment."""
        try:
            first = self._lacking_stubs()
            if first:
                time.sleep(0.1)
            return sorted(first & self._lacking_stubs()) if first else []
        except InferenceServerException:  # the server is ending: the next check sees it
            return []

    def _lacking_stubs(self) -> set[str]:
        versions = Counter(self.control.loaded())
        living = Counter(stub.model(versions) for stub in self.process.stubs())
        run_by_stubs = [name for name in versions if self.control.is_python(name)]
        return {m for m in run_by_stubs if living[m] < self.control.instances(m) * versions[m]}

    def end(self) -> None:
        """End the connection, the process and its stubs."""
        self.control.close()
        self.process.stop(TRITON_EXIT_SECONDS + 2)
