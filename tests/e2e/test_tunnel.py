"""ssh -w: IP packets and Ethernet frames, to real devices between network namespaces and to a policy that is the other end."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
from pathlib import Path
from typing import Callable, Iterator

import pytest

from harness.answers import cat, open_house
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon
from harness.keys import Key
from harness.policy import Policy
from harness.rawclient import RawClient
from harness.stream import ChannelStream
from harness.wait import PATIENCE_S, poll
from harness.wire import u32

Raw = Callable[..., RawClient]

ANY = 0x7FFFFFFF
TUN, TAP = 1, 2
HANDLERS = {TUN: "TunRequested", TAP: "TapRequested"}

DEVICE = pb.OpenAnswer(forward=pb.ForwardEndpoint())
STREAM = pb.OpenAnswer(stream=pb.StreamEndpoint())


def ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True)


class Namespaces:
    """Two machines with a wire between them: the daemon's and the client's."""

    def __init__(self) -> None:
        self.daemon = f"parley-d{os.getpid()}"
        self.client = f"parley-c{os.getpid()}"

    def make(self) -> None:
        for name in (self.daemon, self.client):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", "wire", "netns", self.daemon, "type", "veth", "peer", "name", "wire", "netns", self.client)
        for name, address in ((self.daemon, "192.0.2.1/24"), (self.client, "192.0.2.2/24")):
            ip("-n", name, "address", "add", address, "dev", "wire")
            ip("-n", name, "link", "set", "wire", "up")
        for name in (self.daemon, self.client):  # the kernel lets us have devices there
            ip("-n", name, "tuntap", "add", "dev", "probe", "mode", "tap")

    def end(self) -> None:
        for name in (self.daemon, self.client):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)

    @staticmethod
    def inside(name: str, *argv: str) -> list[str]:
        return ["ip", "netns", "exec", name, *argv]


@pytest.fixture
def spaces() -> Iterator[Namespaces]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    spaces = Namespaces()
    try:
        try:
            spaces.make()
        except subprocess.CalledProcessError as failed:
            pytest.skip(f"no network namespaces or no devices here: {failed.stderr.decode().strip()}")
        yield spaces
    finally:
        spaces.end()


def wait_device(space: str, device: str, there: bool = True) -> None:
    def as_wanted() -> bool:
        return (subprocess.run(["ip", "-n", space, "link", "show", device], capture_output=True).returncode == 0) == there

    poll(as_wanted, f"{device} in {space}: {there}")


def set_up(space: str, device: str, address: str) -> None:
    wait_device(space, device)
    ip("-n", space, "address", "add", address, "dev", device)
    ip("-n", space, "link", "set", device, "up")


def ping(space: str, address: str) -> None:
    """Echo requests of three sizes; a link may lose packets, more so before it is up, and so each is asked again."""
    command = Namespaces.inside(space, "python3", "-c", PING, address)
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert result.returncode == 0, result.stderr


# A socket of its own, since not every machine has ping(8).
PING = """
import os, socket, struct, sys, time

def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.settimeout(0.5)
end = time.monotonic() + 50
for number, size in enumerate((0, 56, 1400) * 3):
    body = bytes(i & 0xFF for i in range(size))
    rest = struct.pack("!HH", os.getpid() & 0xFFFF, number) + body
    packet = struct.pack("!BBH", 8, 0, checksum(bytes([8, 0, 0, 0]) + rest)) + rest
    while True:
        if time.monotonic() > end:
            sys.exit(f"no answer from {sys.argv[1]}")
        try:
            s.sendto(packet, (sys.argv[1], 0))
            got = s.recv(65536)[20:]
        except OSError:
            continue
        if got[0] == 0 and got[4:8] == rest[:4]:
            assert got[8:] == body, "another packet came back"
            break
"""


@pytest.fixture
def tunnelling(policy: Policy) -> Policy:
    open_house(policy, cat)
    policy.on.TunRequested = policy.on.TapRequested = DEVICE
    return policy


class Ends:
    """A daemon in one namespace and OpenSSH in the other."""

    def __init__(self, spaces: Namespaces, daemon: Daemon, work: Path, host_key: Key) -> None:
        self.spaces = spaces
        self.daemon = daemon
        self._work, self._host_key = work, host_key
        self._clients: list[OpenSsh] = []

    def ready(self) -> None:
        self.daemon.wait_ready()

    def ssh(self, *options: str) -> subprocess.Popen:
        port = self.daemon.port
        client = OpenSsh(port, self._work, self._host_key)
        client.known_hosts.write_text(f"[192.0.2.1]:{port} {self._host_key.public}\n")
        client.before = tuple(Namespaces.inside(self.spaces.client))
        client.host = "192.0.2.1"
        self._clients.append(client)
        return client.popen(None, options=("-N", "-o", "ExitOnForwardFailure=yes", *options))

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.fixture
def ends(spaces: Namespaces, tunnelling: Policy, work: Path, host_key: Key) -> Iterator[Ends]:
    flags = ["--listen", "192.0.2.1:0", "--host-key", str(host_key.path), "--policy", f"unix:{work}/policy.sock"]
    daemon = Daemon(flags, cwd=work, before=tuple(Namespaces.inside(spaces.daemon)))
    ends = Ends(spaces, daemon, work, host_key)
    try:
        ends.ready()
        yield ends
        ends.close()
        daemon.stop()
    finally:
        ends.close()
        daemon.kill()


# ---- real devices


@pytest.mark.parametrize("mode", [TUN, TAP], ids=["layer 3", "layer 2"])
def test_ping_between_devices(ends: Ends, tunnelling: Policy, mode: int) -> None:
    kind = "tun" if mode == TUN else "tap"
    process = ends.ssh("-o", f"Tunnel={'point-to-point' if mode == TUN else 'ethernet'}", "-w", "7:any")
    name = ends.daemon.wait_event("tunnel_device")["device"]
    assert name.startswith(kind)
    set_up(ends.spaces.daemon, name, "198.51.100.1/24")
    set_up(ends.spaces.client, f"{kind}7", "198.51.100.2/24")
    ping(ends.spaces.client, "198.51.100.1")
    ping(ends.spaces.daemon, "198.51.100.2")
    assert process.poll() is None
    assert tunnelling.requests(HANDLERS[mode])[0].WhichOneof("wanted") is None
    ends.close()
    ends.daemon.wait_event("channel_closed")
    wait_device(ends.spaces.daemon, name, there=False)


def test_the_policy_rewrites_the_unit(ends: Ends, tunnelling: Policy) -> None:
    tunnelling.on.TunRequested = pb.OpenAnswer(forward=pb.ForwardEndpoint(unit=41))
    ends.ssh("-w", "any:3")
    assert ends.daemon.wait_event("tunnel_device")["device"] == "tun41"
    assert tunnelling.requests("TunRequested")[0].unit == 3
    wait_device(ends.spaces.daemon, "tun41")


def test_a_device_in_use_refuses_with_the_systems_words(ends: Ends) -> None:
    ends.ssh("-w", "any:5")
    ends.daemon.wait_event("tunnel_device")
    ends.ssh("-w", "any:5")
    refused = ends.daemon.wait_event("channel_open", outcome="refused")
    assert refused["why"] == "Device or resource busy"


def test_a_policy_that_answers_pings(ends: Ends, tunnelling: Policy) -> None:
    tunnelling.on.TunRequested = STREAM
    tunnelling.on.Channel = answer_pings
    ends.ssh("-w", "7:any")
    set_up(ends.spaces.client, "tun7", "198.51.100.2/24")
    ping(ends.spaces.client, "198.51.100.1")


# ---- the policy as the other end


def ones(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_packet(type: int, source: str, dest: str, body: bytes) -> bytes:
    """An IPv4 packet with an ICMP echo request (8) or reply (0)."""
    icmp = bytes([type, 0, 0, 0, 0, 1, 0, 1]) + body
    icmp = icmp[:2] + struct.pack("!H", ones(icmp)) + icmp[4:]
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), 1, 0, 64, 1, 0, socket.inet_aton(source), socket.inet_aton(dest))
    return head[:10] + struct.pack("!H", ones(head)) + head[12:] + icmp


async def answer_pings(channel: ChannelStream) -> None:
    while packet := await channel.read_data():
        if packet[0] == 0x45 and packet[9] == 1 and packet[20] == 8:
            icmp = b"\0\0\0\0" + packet[24:]
            icmp = icmp[:2] + struct.pack("!H", ones(icmp)) + icmp[4:]
            await channel.write(packet[:12] + packet[16:20] + packet[12:16] + icmp)


def tunnel_message(client: RawClient, mode: int, unit: int = ANY, channel: int = 0) -> bytes:
    return client.open_message("tun@openssh.com", channel, u32(mode) + u32(unit))


def refusal(client: RawClient, message: bytes) -> tuple[int, str]:
    client.send(message)
    failure = client.until(92)
    failure.u32()
    return failure.u32(), failure.string().decode()


def test_packets_through_a_stream(policy: Policy, raw: Raw) -> None:
    """Many small ones at once come back one by one; what is no packet is lost, and the tunnel goes on."""
    open_house(policy, answer_pings)
    policy.on.TunRequested = STREAM
    client = raw().login()
    number = client.open("tun@openssh.com", rest=u32(TUN) + u32(3))
    assert policy.wait_stream().opened.tun.unit == 3
    client.data(number, b"")
    client.data(number, u32(10) + b"E" * 40)
    bodies = [bytes([i]) * (2 * i) for i in range(20)]
    for body in bodies:
        client.data(number, u32(2) + echo_packet(8, "198.51.100.2", "198.51.100.1", body))
    for body in bodies:
        data = client.expect(94)
        assert data.u32() == 0
        assert data.string() == u32(2) + echo_packet(0, "198.51.100.1", "198.51.100.2", body)


def test_frames_through_a_stream(policy: Policy, raw: Raw) -> None:
    open_house(policy, cat)
    policy.on.TapRequested = STREAM
    client = raw().login()
    number = client.open("tun@openssh.com", rest=u32(TAP) + u32(ANY))
    assert policy.wait_stream().opened.WhichOneof("kind") == "tap"
    for size in (14, 60, 1514, 9000):
        client.data(number, bytes([size & 0xFF]) * size)
    for size in (14, 60, 1514, 9000):
        data = client.expect(94)
        assert (data.u32(), data.string()) == (0, bytes([size & 0xFF]) * size)


# ---- what is refused


def test_refused_with_the_policys_words(policy: Policy, raw: Raw) -> None:
    open_house(policy)
    policy.on.TapRequested = pb.OpenAnswer(refuse=pb.Refuse(code=4711, reason="not on Sundays"))
    client = raw().login()
    assert refusal(client, tunnel_message(client, TAP)) == (4711, "not on Sundays")
    assert refusal(client, tunnel_message(client, TUN))[0] == 1  # no such handler
    client.open()


@pytest.mark.parametrize("mode, unit", [(0, ANY), (3, ANY), (0xFFFFFFFF, 0), (TUN, 0x80000000)])
def test_what_is_no_tunnel_is_not_asked_about(tunnelling: Policy, raw: Raw, mode: int, unit: int) -> None:
    client = raw().login()
    assert refusal(client, tunnel_message(client, mode, unit))[0] == 1
    assert not {"TunRequested", "TapRequested"} & set(tunnelling.names())
    client.open()


def test_no_tunnel_is_checked_before_asking(tunnelling: Policy, raw: Raw) -> None:
    restrictions = pb.Restrictions(no_tunnel=True)
    tunnelling.on.AuthCompleted = pb.AuthCompletedAnswer(allow=pb.Allow(restrictions=restrictions))
    client = raw().login()
    for mode in HANDLERS:
        assert refusal(client, tunnel_message(client, mode))[0] == 1
    assert not {"TunRequested", "TapRequested"} & set(tunnelling.names())


@pytest.mark.parametrize("fields", [{"host": "localhost"}, {"port": 80}, {"path": b"/run/x"}, {"source_address": "127.0.0.1"}])
def test_a_forward_to_elsewhere_is_refused(tunnelling: Policy, raw: Raw, fields: dict) -> None:
    tunnelling.on.TunRequested = pb.OpenAnswer(forward=pb.ForwardEndpoint(**fields))
    client = raw().login()
    assert refusal(client, tunnel_message(client, TUN))[0] == 1
