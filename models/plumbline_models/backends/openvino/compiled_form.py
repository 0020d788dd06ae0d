"""What OpenVINO is told when it compiles, and the compiled form of small graphs, kept from start to start.

It is bound to the CPU, the version and these options, and holds the weights a second time. Of a graph with many nodes
and few weights it saves most of a start: loading the seven embedded graphs takes 0.5 s of CPU time, where reading and
compiling them takes 1.7 s.

Of large weights it costs more than it saves. Measured on a ViT-B/32 image tower (351 MB), two AVX2 cores, checksum
included: representation 0.90 s until ready and 0.81 GB at most, compiled form 1.25 s mapped, 1.35 s read, 0.80 GB and
1.14 GB. The representation is also the same for every CPU, precision and number of threads, so an engine compiled while
an image is built serves wherever the image runs.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from plumbline_models.backends.agreement import References
from plumbline_models.backends.devices import cpu_quota
from plumbline_models.backends.openvino.runtime import cpu_capabilities
from plumbline_models.backends.store.key import EngineKey, Recipe, engine_key
from plumbline_models.backends.tuning import Precision, Tuning
from plumbline_models.core.graph import Graph

_FORM: Final = "engine.blob"
_SOURCES: Final = ("backends.openvino.conversion", "backends.openvino.compiled_form")
_MAX_KEPT_KERNELS = 512
"""Per engine, made for shapes that it has met. Where images come at sizes of their own OpenVINO's 5000 take 0.7 GB
(the embedded qualiclip, 64 to 400 px), these 0.2; batches took as long with 200 as with 5000."""
_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16"}


class CompiledForms:
    """Writes and reads compiled forms.

    Args:
        core: The `openvino.Core` that compiles.
        version: Of OpenVINO.
        options: As `compile_options` gave them.
    """

    def __init__(self, core: Any, *, version: str, options: Mapping[str, Any]) -> None:
        self._core = core
        self._version = version
        self._options = dict(options)

    def key(self, graph: Graph) -> EngineKey:
        """What the form of a graph is found by."""
        told = {name: str(value) for name, value in self._options.items()}
        precision = told["INFERENCE_PRECISION_HINT"]
        recipe = Recipe("openvino", self._version, precision, self._device, options=told, sources=_SOURCES)
        return engine_key(graph, recipe)

    @cached_property
    def _device(self) -> str:
        name = self._core.get_property("CPU", "FULL_DEVICE_NAME").strip()
        return f"{name} {' '.join(sorted(cpu_capabilities(self._core)))}"

    def write(self, compiled: Any, references: References, folder: Path) -> None:
        """Write what was compiled, and what it must give, into a folder.

        Args:
            compiled: Of OpenVINO.
            references: For the fixed inputs.
            folder: Empty.

        Raises:
            OSError: The disk refuses, or OpenVINO cannot write this graph.
        """
        references.write(folder)
        try:
            content = compiled.export_model().getbuffer()
        except RuntimeError as error:
            raise OSError(f"OpenVINO could not write its compiled form ({error})") from error
        (folder / _FORM).write_bytes(content)

    def read(self, folder: Path) -> Any:
        """The same back.

        Raises:
            RuntimeError: It is of another version, or damaged.
            OSError: It cannot be read.
        """
        return self._core.import_model((folder / _FORM).read_bytes(), "CPU", self._options)


def compile_options(precision: Precision, tuning: Tuning) -> dict[str, Any]:
    """What OpenVINO is told when it compiles.

    Args:
        precision: Of what is not quantised.
        tuning: As for every backend.
    """
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "PERFORMANCE_HINT": tuning.prefer.upper(),
        "NUM_STREAMS": str(tuning.num_streams),
        "CPU_RUNTIME_CACHE_CAPACITY": _MAX_KEPT_KERNELS,
        "ENABLE_CPU_PINNING": False,  # replicas of one machine could pin their threads to the same cores
    }
    num_threads = tuning.num_threads or cpu_quota()
    return options if num_threads is None else {**options, "INFERENCE_NUM_THREADS": num_threads}
