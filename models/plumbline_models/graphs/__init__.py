"""What is compiled: torch modules, and their descriptions as graphs, which need no torch."""
