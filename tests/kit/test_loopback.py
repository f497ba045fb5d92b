"""What all stand-ins on loopback have in common: stopping ends every connection."""

import socket
import threading

import pytest
from torghut_testing.loopback.server import HOST, Loopback

from support.waiting import PATIENCE


class Server(Loopback):
    def __init__(self):
        super().__init__(0, "quiet")
        self.made = 0

    def talk(self, head, transport):
        raise AssertionError("nothing is spoken in this test")

    def _connect(self):
        self.made += 1
        return super()._connect()


def ended(client):
    """Whether the server is gone for a client."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("clients", [1, 20])
def test_a_client_that_comes_while_the_server_stops_is_ended_too(clients):
    """Its socket is accepted in the very round of the loop in which the server begins to stop."""
    server = Server()
    server.start()
    reached, go = threading.Event(), threading.Event()
    server._loop.call_soon_threadsafe(lambda: (reached.set(), go.wait(5)))
    assert reached.wait(PATIENCE)
    sockets = [socket.create_connection((HOST, server.port)) for _ in range(clients)]
    stopping = threading.Thread(target=server.stop)
    scheduled = server._loop.call_soon_threadsafe
    server._loop.call_soon_threadsafe = lambda *args, **kwargs: (scheduled(*args, **kwargs), go.set())[0]
    stopping.start()
    stopping.join(PATIENCE)
    assert not stopping.is_alive()
    for each in sockets:
        with each:
            each.settimeout(PATIENCE)
            assert ended(each)
    assert server.made, "the race that this is about did not happen"
    assert server.connections == set()
