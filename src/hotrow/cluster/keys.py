"""Keys by which a shard and whoever asks it from another node know each other, and between nodes nobody else listens.

Both are made of the table's secret, so whoever was told that has them, in every life of a shard: CURVE of ZeroMQ, of
which each connection has keys of its own (http://curvezmq.org).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from hotrow.cluster.connecting import zmq_module
from hotrow.errors import ClusterError

_HANDSHAKE = 5000  # milliseconds; whoever hasn't shown the key by then is cut off, with what was sent so far


class Asker:
    """Who may ask: whoever has this public key. ZeroMQ's authenticator asks `callback`."""

    def __init__(self, secret: str) -> None:
        self._key, _ = _pair(secret, "asker")

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether this key may ask."""
        return hmac.compare_digest(key, self._key)


def guard(socket: Any, secret: str) -> Any:
    """What a shard's socket is bound to from now on is for those who have the keys; stop() what it gives at the end."""
    zmq = _with_curve()
    from zmq.auth.thread import ThreadAuthenticator

    doorkeeper = ThreadAuthenticator(socket.context)
    doorkeeper.start()
    doorkeeper.configure_curve_callback("*", Asker(secret))
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, _pair(secret, "shard")[1])
    socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE)
    return doorkeeper


def show(socket: Any, secret: str) -> None:
    """Let a socket show the keys to a shard on another node, before it is connected."""
    zmq = _with_curve()
    public, private = _pair(secret, "asker")
    socket.setsockopt(zmq.CURVE_SERVERKEY, _pair(secret, "shard")[0])
    socket.setsockopt(zmq.CURVE_PUBLICKEY, public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, private)


def _with_curve() -> Any:
    zmq = zmq_module()
    if not zmq.has("curve"):
        raise ClusterError(
            "the ZeroMQ of this Python was built without CURVE, and between nodes nothing is sent that others could "
            "read; expected pyzmq as PyPI has it: pip install --force-reinstall pyzmq"
        )
    return zmq


def _pair(secret: str, whose: str) -> tuple[bytes, bytes]:
    """A public and a private key, in the letters of ZeroMQ."""
    from zmq import curve_public
    from zmq.utils import z85

    private = z85.encode(hmac.digest(secret.encode(), f"hotrow {whose}".encode(), hashlib.sha256))
    return curve_public(private), private
