"""Scores without a service: files of rows in, files of scores out, and what is read from such files afterwards.

readers → rows → runners (this process, a server, a Ray cluster) → shards → one output
                                                                            └── report, comparison
"""
