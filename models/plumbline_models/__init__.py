"""Everything that computes a score; knows nothing of Ray, HTTP or gRPC."""
