"""OpenVINO: graphs to engines on CPUs."""
