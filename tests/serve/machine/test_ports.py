"""Ports of a service's own: two services that start at the same time never choose the same ones."""

import socket
from contextlib import ExitStack

import pytest

from plumbline_models.core.errors import ConfigError
from plumbline_serve.machine.ports import free_port, held_block, held_ports, obstacle

LOOPBACK = "127.0.0.1"
FEW_BLOCKS = range(18_000, 19_000, 200)
"""Of which no service that runs meanwhile takes one."""


def test_a_taken_port_is_told_from_a_host_that_is_not_here() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        assert "in use" in (obstacle(LOOPBACK, port) or "")
    assert obstacle(LOOPBACK, port) is None
    assert "assign" in (obstacle("203.0.113.7", port) or "")


def test_services_that_start_together_hold_different_blocks_before_they_listen() -> None:
    with ExitStack() as services:
        blocks = [services.enter_context(held_block()) for _ in range(20)]
        assert len({block.start for block in blocks}) == len(blocks)
        assert "another Plumbline" in (obstacle(LOOPBACK, blocks[0][5]) or "")
    assert obstacle(LOOPBACK, blocks[0][5]) is None


def test_a_block_has_no_port_that_is_taken_or_that_callers_use() -> None:
    with ExitStack() as taken:
        for start in FEW_BLOCKS[2:]:
            taken.enter_context(socket.create_server((LOOPBACK, start + 7)))
        with held_block(avoid=frozenset({FEW_BLOCKS[0] + 1}), blocks=FEW_BLOCKS) as block:
            assert block.start == FEW_BLOCKS[1]
            with (
                pytest.raises(ConfigError, match="in a row are free"),
                held_block(avoid=frozenset({FEW_BLOCKS[0]}), blocks=FEW_BLOCKS),
            ):
                pass


def test_of_two_services_on_one_port_the_second_is_refused_before_the_first_listens() -> None:
    port = free_port()
    with held_ports(LOOPBACK, port):
        assert "another Plumbline" in (obstacle(LOOPBACK, port) or "")
        with pytest.raises(ConfigError, match=f"{LOOPBACK}:{port}"), held_ports(LOOPBACK, free_port(), port):
            pass
    with held_ports(LOOPBACK, port):
        pass
