"""The request path: from a checked request to its reply; no Ray, no HTTP, no torch."""
