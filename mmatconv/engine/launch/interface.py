"""Which network interface reaches the other machines.

gloo asks for the address of this machine's own name, which many systems answer with the loopback: the machines then
never meet.
"""

import contextlib
import ipaddress
import os
import socket
import struct

GLOO_INTERFACE = 'GLOO_SOCKET_IFNAME'
SIOCGIFADDR, SIOCGIFNETMASK = 0x8915, 0x891B  # Linux's ioctls


def choose_gloo_interface(master: str) -> None:
    """Sets GLOO_SOCKET_IFNAME to the interface on the way to `master`, unless it is set or cannot be told."""
    name = None if os.environ.get(GLOO_INTERFACE) else find_interface(master)
    if name:
        os.environ[GLOO_INTERFACE] = name


def find_interface(host: str) -> str | None:
    """The interface whose IPv4 address packets to `host` carry; None where it cannot be told."""
    with contextlib.suppress(OSError, ImportError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing
        own = ipaddress.ip_address(probe.getsockname()[0])
        if own.is_loopback and not _names_the_loopback(host):
            return None  # the machine's own name stands for the loopback here, not for what others reach
        networks = {name: network for _, name in socket.if_nameindex() if (network := _network(probe, name))}
        exact = [name for name, network in networks.items() if network.ip == own]
        return next(iter(exact + [name for name, network in networks.items() if own in network.network]), None)
    return None


def _names_the_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


def _network(probe: socket.socket, name: str) -> ipaddress.IPv4Interface | None:
    import fcntl

    request = struct.pack('256s', name.encode())
    try:
        address, mask = (
            socket.inet_ntoa(fcntl.ioctl(probe.fileno(), code, request)[20:24])
            for code in (SIOCGIFADDR, SIOCGIFNETMASK)
        )
    except OSError:
        return None  # it has no IPv4 address
    return ipaddress.IPv4Interface(f'{address}/{mask}')
