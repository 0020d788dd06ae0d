"""Load tests and benchmarks: programs, each run as `python -m loadtests.FOLDER.NAME`."""
