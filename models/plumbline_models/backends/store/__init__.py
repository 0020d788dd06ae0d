"""The engine store: what was compiled, on disk, found by key and verified before use."""
