"""Exports the graphs of the embedded networks, so that a service starts without torch.

    python -m plumbline_training.export_embedded

Writes `graphs/` into the folder of each embedded checkpoint, a folder a graph; see `plumbline_models.backends.shipped`.
It takes a minute, and is due whenever the sources that a graph is made by change: a test says so.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from plumbline_models.backends import ListingBackend
from plumbline_models.backends.export.shipping import ship
from plumbline_models.core.graph import Graph
from plumbline_models.core.protocols import BuildContext
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers import build_scorers

_MIB = 2**20


def embedded_graphs() -> Sequence[Graph]:
    """Those of the scorers that a service without a configuration has."""
    backend, registry = ListingBackend("openvino", "fp32"), EncoderRegistry()
    build_scorers(None, BuildContext(backend, registry))
    for encoder in registry.encoders:
        encoder.load()
    return [graph for graph in backend.graphs if graph.shipped is not None]


def write(graph: Graph) -> int:
    """Export one graph into its place, whole or not at all; its size in bytes."""
    assert graph.shipped is not None  # noqa: S101 - `embedded_graphs` has left out the others  # nosec B101
    folder = graph.shipped.folder
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        ship(graph, Path(made))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    return sum(file.stat().st_size for file in folder.iterdir())


def main() -> None:
    """Export every graph."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for graph in embedded_graphs():
        print(f"{graph.name}: {write(graph) / _MIB:.2f} MiB", file=sys.stderr)  # noqa: T201 - of a program


if __name__ == "__main__":
    main()
