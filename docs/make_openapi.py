"""The service's OpenAPI document without a service, for generators of clients: `make typescript` writes it."""

import json
import sys
from pathlib import Path
from typing import Any

from plumbline_serve.edge.rest import openapi
from plumbline_serve.edge.rest.app import OPEN_PATHS
from plumbline_serve.edge.rest.contract_routes import contract_routes
from plumbline_serve.edge.rest.routes import Routes
from plumbline_serve.settings import Settings


def document() -> dict[str, Any]:
    """The whole document, with the requests to try of the embedded scorers."""
    nobody: Any = None  # answers no request
    routes = contract_routes(nobody, nobody, Routes(nobody, nobody), has_metrics=True)
    return openapi.describe(routes, open_paths=OPEN_PATHS, scorers=Settings().scorer_names)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(document(), indent=1) + "\n", encoding="utf-8")
