"""The listening socket: taken before models are loaded, opened after, with errors that say what to do."""

import contextlib
import errno
import socket
from collections.abc import Iterator

from serving.double.errors import PortInUseError, ServeError


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket of that address for the length of a `with` block, which nobody can connect to before `listen`.

    Raises:
        PortInUseError: somebody listens on the port.
        ServeError: the address cannot be taken for another reason.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where the protocol is named; without it every reply takes 40 ms more.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with _port_errors(host, port):
            listener.bind((host, port))
        yield listener
    finally:
        listener.close()


def listen(listener: socket.socket, host: str, port: int) -> None:
    """Opens the socket for connections; raises as `bound`."""
    # Two sockets may both bind with SO_REUSEADDR while neither listens; the second one learns of it here.
    with _port_errors(host, port):
        listener.listen(2048)


@contextlib.contextmanager
def _port_errors(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OverflowError as error:
        raise ServeError(f"Port {port} is no port: expected a number from 0 to 65535.") from error
    except socket.gaierror as error:
        raise ServeError(f"Host '{host}' is not known: {error.strerror}. Use 127.0.0.1 or an address here.") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(host, port) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise ServeError(f"Port {port} may not be opened by this user; choose one above 1023.") from error
        raise ServeError(
            f"Cannot listen on {host}:{port}: {error.strerror}. Use an address of this machine."
        ) from error
