"""`make demo`: start the service, score a small gallery through REST and gRPC, print both answers, stop."""
