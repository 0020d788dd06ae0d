#!/usr/bin/env bash
# What the Dockerfile runs, in steps that make a layer each; tests run them too, where there is no Docker.
#
#   install.sh wheels FOLDER                 build the two wheels into FOLDER
#   install.sh dependencies PREFIX [EXTRA]   make a virtual environment at PREFIX with all that they need
#   install.sh product PREFIX FOLDER         install the wheels there, and see that the command starts
set -euo pipefail
here="$(cd "$(dirname "$0")/../.." && pwd)"

wheels() {
    local folder="$1" tools
    tools="$(mktemp -d)"
    "${PYTHON:-python3}" -m venv "$tools"
    "$tools/bin/python" -m pip wheel --quiet --no-deps --wheel-dir "$folder" "$here" "$here/clients"
    rm -rf "$tools"
}

dependencies() {
    local prefix="$1" extra="${2:-}"
    "${PYTHON:-python3}" -m venv "$prefix"
    "$prefix/bin/python" "$here/deploy/image/list_dependencies.py" "$extra" >"$prefix/dependencies.txt"
    "$prefix/bin/python" -m pip install --quiet --no-cache-dir \
        --constraint "$here/constraints.txt" --requirement "$prefix/dependencies.txt"
}

product() {
    local prefix="$1" folder="$2"
    "$prefix/bin/python" -m pip install --quiet --no-cache-dir --no-deps --no-index "$folder"/plumbline_*.whl
    "$prefix/bin/plumbline" --help >/dev/null
}

case "${1:-}" in
wheels | dependencies | product) "$@" ;;
*)
    sed -n '2,6p' "$0" >&2
    exit 2
    ;;
esac
