"""Reads an ONNX file into a TensorRT network whose types are those of the file."""

from pathlib import Path
from typing import Any

from plumbline_models.backends.tensorrt_library import TensorRtLibrary
from plumbline_models.core.errors import EngineError

_MAX_REASON = 2000


def parse_network(library: TensorRtLibrary, builder: Any, onnx_file: Path, *, graph: str) -> tuple[Any, Any]:
    """The network of a file, weights beside it included.

    Args:
        builder: The library's `Builder`, which must outlive the network.
        graph: Its name, for errors.

    Returns:
        Network and parser; the parser holds the weights and must live until the network is built.

    Raises:
        EngineError: TensorRT refuses a node; facts `node` and `operator` name it.
    """
    api = library.api
    # Before version 11 types of a network are hints unless it is asked for; from 11 on the flag changes nothing.
    network = builder.create_network(1 << int(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = api.OnnxParser(network, builder.logger)
    if not parser.parse_from_file(str(onnx_file)):
        raise _refusal(parser, graph, library)
    return network, parser


def _refusal(parser: Any, graph: str, library: TensorRtLibrary) -> EngineError:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    first = errors[0] if errors else None
    # Some errors are about a whole file and name no node.
    node = (first.node_name() or None) if first is not None else None
    operator = (first.node_operator() or None) if first is not None else None
    where = f" at node {node} ({operator})" if node else ""
    return EngineError(
        f"{library.package} refuses the graph {graph}{where}.",
        graph=graph,
        node=node,
        operator=operator,
        reason="; ".join(error.desc() for error in errors)[:_MAX_REASON],
    )


def find_layer(network: Any, message: str) -> str | None:
    """The layer that a message of the builder is about: of those whose name it holds, the one named longest."""
    names = (network.get_layer(index).name for index in range(network.num_layers))
    return max((name for name in names if name and name in message), key=len, default=None)
