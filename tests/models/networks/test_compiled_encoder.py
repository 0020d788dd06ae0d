"""What all encoders of compiled networks do alike, on a network that doubles numbers."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from plumbline_models.core.arrays import Array
from plumbline_models.core.engines import EngineInfo
from plumbline_models.core.errors import EngineError, SetupError
from plumbline_models.core.graph import Graph, TensorSpec
from plumbline_models.core.protocols import EncoderKind, Origin
from plumbline_models.core.weights import EncoderSize, Seek
from plumbline_models.networks.compiled_encoder import CompiledEncoder, NetworkFacts
from tests.results import succeeded

LIMIT_S = 60


class Doubles:
    """A backend and its engine; a run waits until `may_go_on` is set."""

    name, precision = "doubles", "fp32"
    info = EngineInfo("double", "doubles", "fp32", "cpu", "", num_streams=3)

    def __init__(self, *, warm: float = 1.0) -> None:
        self.sizes: list[int] = []
        self.num_compiled = 0
        self.warm = warm
        self.is_warming, self.may_go_on = threading.Event(), threading.Event()
        self.may_go_on.set()

    def compile(self, graph: Graph) -> "Doubles":
        self.num_compiled += 1
        return self

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        self.is_warming.set()
        assert self.may_go_on.wait(LIMIT_S)
        self.sizes.append(len(inputs["numbers"]))
        return {"doubled": inputs["numbers"] * np.float32(2)}


class Weights:
    origin = Origin("doubles.bin", "MIT", is_present=True)

    def check(self, seek: Seek) -> None:
        raise NotImplementedError

    def num_weights(self, kind: EncoderKind) -> int | None:
        return 7 if kind == "text" else None


class DoublingEncoder(CompiledEncoder[Weights, float, np.float32]):
    kind, key, max_batch_cost = "text", "doubles/text", 8.0

    def __init__(self, backend: Doubles) -> None:
        super().__init__(Weights(), lambda: backend)
        self._warm = backend.warm

    def _max_inputs(self) -> int:
        return 2

    def bucket(self, preprocessed: float) -> int:
        return 0

    def cost(self, preprocessed: float) -> float:
        return 1.0

    def _preprocess(self, raw: str) -> float:
        return float(raw)

    def _usual_input(self) -> float:
        return self._warm

    def _graph(self) -> Graph:
        return Graph("double", (TensorSpec("numbers", "float32", (1,)),), ("doubled",), "", lambda: None)

    def _collate(self, part: Sequence[float]) -> Mapping[str, Array]:
        return {"numbers": np.array(part, dtype=np.float32)}

    def _read(self, preprocessed: float, outputs: Mapping[str, Array]) -> np.float32:
        return np.float32(outputs["doubled"])

    def _facts(self) -> NetworkFacts:
        return NetworkFacts("doubler", "ab" * 32, 1, {"factor": "2"})


def test_a_batch_is_cut_and_a_result_without_a_number_is_an_error_of_its_own() -> None:
    backend = Doubles()
    encoder = DoublingEncoder(backend)
    encoder.load()
    first, second, *rest = encoder.encode([encoder.preprocess(text) for text in ("1", "nan", "3", "4", "5")])
    assert succeeded([first, *rest]) == [2, 6, 8, 10]
    assert isinstance(second, EngineError)
    assert backend.sizes == [1, 2, 2, 1]  # the first is the warm-up


def test_many_threads_load_one_engine_and_none_sees_it_before_it_is_warm() -> None:
    backend = Doubles()
    backend.may_go_on.clear()
    encoder = DoublingEncoder(backend)
    with ThreadPoolExecutor(4) as pool:
        loading = [pool.submit(encoder.load) for _ in range(4)]
        assert backend.is_warming.wait(LIMIT_S)
        with pytest.raises(EngineError, match="not loaded yet"):
            encoder.encode([1.0])
        with pytest.raises(SetupError, match="not loaded yet"):
            encoder.info()
        backend.may_go_on.set()
        for each in loading:
            each.result()
    assert (backend.num_compiled, backend.sizes) == (1, [1])


def test_an_encoder_that_gives_no_numbers_while_warming_up_stays_unloaded() -> None:
    encoder = DoublingEncoder(Doubles(warm=np.inf))
    for _ in range(2):
        with pytest.raises(EngineError, match=r"doubles/text gives no numbers .* \(doubles\.bin\)"):
            encoder.load()
    with pytest.raises(SetupError):
        encoder.info()


def test_the_description_says_what_network_weights_and_engine_are() -> None:
    encoder = DoublingEncoder(Doubles())
    encoder.load()
    info = encoder.info()
    assert (info.arch, info.source, info.licence, info.sha256[:2]) == ("doubler", "doubles.bin", "MIT", "ab")
    assert (info.backend, info.precision, info.device, info.num_streams) == ("doubles", "fp32", "cpu", 3)


def test_its_size_is_that_of_the_weights_and_of_the_largest_batch() -> None:
    assert DoublingEncoder(Doubles()).size() == EncoderSize(num_weights=7, num_inputs=2)  # as many as one run takes
