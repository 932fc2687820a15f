"""Another host on the virtual network: it asks who is `allerac.local`, by Ethernet frames of its own, and hears the answer."""

import socket
import struct
import time

MDNS_ADDRESS, MDNS_PORT = "224.0.0.251", 5353
OWN_ADDRESS = "10.0.2.77"
OWN_MAC, MDNS_MAC = bytes.fromhex("525400aa0077"), bytes.fromhex("01005e0000fb")
TYPE_A, TYPE_PTR, CLASS_IN = 1, 12, 1


class Neighbour:
    """The virtual machine's network hub sends frames to `port` of this host, and takes frames from there."""

    def __init__(self, port: int):
        self._hub = ("127.0.0.1", port)
        self._cable = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._cable.bind(("127.0.0.1", 0))

    def netdev(self, name: str) -> str:
        """The end of the cable that qemu holds."""
        own = self._cable.getsockname()[1]
        return f"socket,id={name},udp=127.0.0.1:{own},localaddr=127.0.0.1:{self._hub[1]}"

    def resolve(self, name: str, seconds: float = 60) -> list[str]:
        """The IPv4 addresses that answer to a name of multicast DNS."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._cable.sendto(frame(question(name, TYPE_A)), self._hub)
            self._cable.settimeout(3)
            try:
                while True:
                    found = answers(self._cable.recv(65536), name)
                    if found:
                        return found
            except TimeoutError:
                continue
        return []


def question(name: str, kind: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", 0, 0, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, CLASS_IN)


def frame(payload: bytes) -> bytes:
    """Ethernet, IPv4 and UDP around it; UDP over IPv4 may go without a checksum."""
    udp = struct.pack("!4H", MDNS_PORT, MDNS_PORT, 8 + len(payload), 0) + payload
    addresses = socket.inet_aton(OWN_ADDRESS) + socket.inet_aton(MDNS_ADDRESS)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 255, socket.IPPROTO_UDP, 0) + addresses
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + header[12:]
    return MDNS_MAC + OWN_MAC + b"\x08\x00" + header + udp


def answers(heard: bytes, name: str) -> list[str]:
    """The addresses in a frame, when it is an answer of multicast DNS about this name."""
    if heard[12:14] != b"\x08\x00" or heard[23] != socket.IPPROTO_UDP:
        return []
    packet = heard[14:]
    udp = packet[(packet[0] & 15) * 4 :]
    if struct.unpack("!H", udp[:2])[0] != MDNS_PORT:
        return []
    message = udp[8:]
    _, flags, questions, *counts = struct.unpack("!6H", message[:12])
    if not flags & 0x8000:
        return []
    place, found = 12, []
    for _ in range(questions):
        place = read_name(message, place)[1] + 4
    for _ in range(sum(counts)):
        owner, place = read_name(message, place)
        kind, _, _, length = struct.unpack("!HHIH", message[place : place + 10])
        data, place = message[place + 10 : place + 10 + length], place + 10 + length
        if kind == TYPE_A and owner.lower() == name:
            found.append(socket.inet_ntoa(data))
    return found


def read_name(message: bytes, place: int) -> tuple[str, int]:
    """A name, and where it ends; the rest of a name may lie elsewhere (RFC 1035, 4.1.4)."""
    labels, end = [], None
    while message[place]:
        if message[place] >= 0xC0:
            end = end or place + 2
            place = struct.unpack("!H", message[place : place + 2])[0] & 0x3FFF
            continue
        labels.append(message[place + 1 : place + 1 + message[place]].decode())
        place += 1 + message[place]
    return ".".join(labels), end or place + 1
