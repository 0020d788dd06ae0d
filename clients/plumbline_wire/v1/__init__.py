"""Version 1 of the wire, compiled from `plumbline/v1/scoring.proto`."""
