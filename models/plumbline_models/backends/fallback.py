"""torch in the place of an engine that cannot be had, or that gives wrong numbers: slower, and never silent."""

import logging
from dataclasses import dataclass
from typing import Final

from plumbline_models.backends.agreement import WrongNumbersError
from plumbline_models.backends.tuning import Precision, Tuning
from plumbline_models.core.engines import Backend, Engine
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph

logger = logging.getLogger(__name__)
BY_TORCH: Final = "torch runs it instead and is slower"


@dataclass(frozen=True, slots=True)
class Fallback:
    """What a backend does when an engine of its own fails.

    Args:
        backend: Its name.
        precision: That it computes in.
        tuning: As for every backend; names who is told.
    """

    backend: str
    precision: Precision
    tuning: Tuning

    def report(self, graph: Graph, error: EngineError | WrongNumbersError, *, instead: str) -> None:
        """Say that an engine failed: an error in the log, and in the metric.

        Args:
            graph: Whose.
            error: Why.
            instead: What is done about it.
        """
        logger.error(
            "The %s engine of %s failed, %s: %s",
            self.backend,
            graph.name,
            instead,
            error.detail,
            extra={"graph": graph.name, "backend": self.backend, "reason": error.facts.get("reason")},
        )
        if self.tuning.on_fallback is not None:
            self.tuning.on_fallback(graph.name, self.backend)

    def run_by_torch(self, graph: Graph) -> Engine:
        """Torch's engine of the graph.

        Raises:
            EngineError: torch cannot run it either.
        """
        from plumbline_models.backends import torch_backend  # noqa: PLC0415 - torch, when it is needed

        precision: Precision = "bf16" if graph.exceeds_fp16 and self.precision == "fp16" else self.precision
        backend: Backend = torch_backend.open_backend(precision, self.tuning)
        return backend.compile(graph)
