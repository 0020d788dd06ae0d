# ruff: noqa: INP001 - a program, not a module of a package
"""Compile the gRPC schema into `plumbline_wire/v1`: `python clients/proto/compile_stubs.py [FOLDER]`.

The schema is given to protoc under a virtual path, so that the stubs are imported as `plumbline_wire.v1` while
the protobuf package stays `plumbline.v1`.

The compiled code refuses a protobuf or grpcio older than the compiler, so an old one compiles it: that of
`requirements.txt` beside this file, which `make setup` puts into a folder of its own, for it asks for an old protobuf
that it does not need.
"""

import os
import subprocess  # nosec B404
import sys
import sysconfig
from pathlib import Path

PROTO = Path(__file__).resolve().parent
VIRTUAL = "plumbline_wire/v1"
COMPILER = Path(sys.prefix) / "proto"


def compile_stubs(out: Path) -> None:
    """Write the modules and their type stubs under `out/plumbline_wire/v1`.

    Raises:
        CalledProcessError: protoc refused the schema.
    """
    types_plugin = Path(sysconfig.get_path("scripts")) / "protoc-gen-mypy"
    subprocess.run(  # noqa: S603  # nosec B603
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--proto_path={VIRTUAL}={PROTO / 'plumbline/v1'}",
            f"--proto_path={sysconfig.get_path('purelib')}",
            f"--plugin=protoc-gen-mypy={types_plugin}",
            f"--plugin=protoc-gen-mypy_grpc={types_plugin}_grpc",
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            f"--mypy_out={out}",
            f"--mypy_grpc_out={out}",
            f"{VIRTUAL}/scoring.proto",
            f"{VIRTUAL}/open_inference.proto",
        ],
        check=True,
        env={**os.environ, "PYTHONPATH": str(COMPILER)},
    )


if __name__ == "__main__":
    compile_stubs(Path(sys.argv[1]) if len(sys.argv) > 1 else PROTO.parent)
