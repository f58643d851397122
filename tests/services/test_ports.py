"""Ports are free, distinct and kept."""

from __future__ import annotations

import socket

from dpn_platform.services.ports import choose_ports, is_free


def test_every_name_gets_a_free_port_of_its_own_below_the_ephemeral_range() -> None:
    names = [f"n{i}" for i in range(30)]
    ports = choose_ports(names, {})
    assert list(ports) == names
    assert len(set(ports.values())) == 30
    assert all(20000 <= port < 32768 and is_free(port) for port in ports.values())


def test_earlier_choice_is_kept_unless_it_is_taken() -> None:
    first = choose_ports(["a", "b", "c"], {})
    assert choose_ports(["a", "b", "c"], first) == first
    with socket.socket() as busy:
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closing connection may still name the port
        busy.bind(("127.0.0.1", first["b"]))
        busy.listen()
        assert not is_free(first["b"])
        again = choose_ports(["a", "b"], first, taken=[first["c"]])
    assert again["a"] == first["a"]
    assert again["b"] not in first.values()
