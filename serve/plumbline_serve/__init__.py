"""The scoring service: a Ray Serve application that answers over REST and gRPC."""
