"""The process of an emulated fleet: it plays the devices' lives as far as the coordinator lets time pass."""

import argparse
import importlib
import json
import logging
import socket

from edge_client.fleet.air import Air, Lane, Port
from edge_client.fleet.live import LiveFleet
from edge_client.fleet.member import Site
from edge_client.fleet.roster import checks_once, members_of
from edge_client.fleet.slot_file import slot_file
from edge_client.fleet.workforce import Workforce
from edge_client.fleet.world import World
from shared.errors import GradsieveError, MessageError
from shared.fleet_brief import FleetBrief
from shared.transport import Connected, Publication, Received, Subscribed
from shared.virtual_link import Packet, PacketKind, PacketStream

COORDINATOR = "coordinator"
EVENTS_A_GLANCE = 32
"""Events between two looks at what the workers have ready."""


class EmulatedFleet:
    """All devices of a brief, and the coordinator as one more client of the same broker."""

    def __init__(self, brief: FleetBrief, workforce: Workforce) -> None:
        self.workforce = workforce
        self.world = World()
        self.air = Air(self.world)
        self.coordinator = Port(self.air, COORDINATOR, Lane(), Lane(), lambda: None)
        site = Site(self.world, workforce, checks_once(), brief.example_flops, brief.began_seconds, self.air)
        self.members = members_of(brief, slot_file(brief), site)
        self._asked = 0

    def start(self) -> None:
        """Switch every device on."""
        for member in self.members:
            member.start()

    def has_news(self) -> bool:
        """Has something come for the coordinator; the workers are given a glance meanwhile."""
        self._asked += 1
        if self._asked % EVENTS_A_GLANCE == 0:
            self.workforce.glance()
        return self.coordinator.has_events

    def figures(self) -> dict[str, object]:
        """What the fleet has cost, on this machine and by its own clocks."""
        done = [member.figures for member in self.members]
        return {
            "virtual_seconds": self.world.now,
            "trained_seconds": sum(each.trained_seconds for each in done),
            "crashes": sum(each.crashes for each in done),
            "orders": sum(each.orders for each in done),
            "sent_bytes": sum(member.port.traffic.sent_bytes for member in self.members),
            "received_bytes": sum(member.port.traffic.received_bytes for member in self.members),
            "spent_joules": sum(m.charge.spent_joules for m in self.members if m.charge is not None),
            "workers": self.workforce.processes(),
        }


class Conversation:
    """Answers the coordinator's packets, one after another."""

    def __init__(self, connection: socket.socket, workforce: Workforce) -> None:
        self._connection, self._stream, self._workforce = connection, PacketStream(connection), workforce
        self._fleet: EmulatedFleet | None = None

    def serve(self) -> None:
        """Go on until the coordinator closes or has gone."""
        while True:
            packet = self._stream.receive()
            if packet.kind is PacketKind.CLOSE:
                return
            self._take(packet)

    def complain(self, text: str) -> None:
        """Tell the coordinator why the fleet cannot go on."""
        self._answer(Packet(PacketKind.FAULT, payload=text.encode()))

    def _take(self, packet: Packet) -> None:
        if packet.kind is PacketKind.BRIEF:
            self._begin(packet.payload)
            return
        if self._fleet is None:
            raise MessageError(f"{packet.kind.name} before the brief of the fleet")
        port = self._fleet.coordinator
        match packet.kind:
            case PacketKind.CONNECT:
                port.connect(Publication(packet.topic, packet.payload, retain=True))
            case PacketKind.PUBLISH | PacketKind.RETAIN:
                port.publish(Publication(packet.topic, packet.payload, retain=packet.kind is PacketKind.RETAIN))
            case PacketKind.SUBSCRIBE:
                port.subscribe(packet.topic)
            case PacketKind.UNSUBSCRIBE:
                port.unsubscribe(packet.topic)
            case PacketKind.ADVANCE:
                self._advance(self._fleet, packet.seconds)
            case PacketKind.FIGURES:
                self._answer(Packet(PacketKind.FIGURES, payload=json.dumps(self._fleet.figures()).encode()))
            case _:
                raise MessageError(f"a {packet.kind.name} is nothing that a coordinator says")

    def _begin(self, text: bytes) -> None:
        brief = FleetBrief.model_validate_json(text)
        if brief.broker is not None:
            live = LiveFleet(brief, self._workforce, self._connection)
            self._workforce.brief(brief)
            self._answer(Packet(PacketKind.READY))
            live.serve()
            raise EOFError("the coordinator has closed")
        self._fleet = EmulatedFleet(brief, self._workforce)  # first, for it makes the files that workers open
        self._workforce.brief(brief)
        self._fleet.start()
        self._answer(Packet(PacketKind.READY))

    def _advance(self, fleet: EmulatedFleet, until: float) -> None:
        fleet.world.run_until(until, fleet.has_news)
        self._answer(_news(fleet))

    def _answer(self, packet: Packet) -> None:
        self._stream.write(packet)
        self._stream.flush()


def _news(fleet: EmulatedFleet) -> Packet:
    now = fleet.world.now
    match fleet.coordinator.receive(0.0):
        case Received(topic, payload, retained):
            return Packet(PacketKind.STORED if retained else PacketKind.RECEIVED, now, topic, payload)
        case Connected(max_payload_bytes):
            return Packet(PacketKind.CONNECTED, now, payload=str(max_payload_bytes).encode())
        case Subscribed(filters):
            return Packet(PacketKind.GRANTED, now, payload="\n".join(filters).encode())
        case None:
            return Packet(PacketKind.IDLE, now)
        case other:
            return Packet(PacketKind.FAULT, now, payload=str(other).encode())


def main() -> int:
    """Be the fleet of the coordinator at the other end of a socket that was inherited."""
    parser = argparse.ArgumentParser(description="an emulated fleet; started by gradsieve emulate")
    parser.add_argument("--socket", type=int, required=True, help="descriptor of the socket to the coordinator")
    parser.add_argument("--workers", type=int, required=True, help="processes that train")
    parser.add_argument("--engine", choices=("onnx", "torch"), default="onnx", help="what workers train with")
    options = parser.parse_args()
    if options.engine == "torch":
        importlib.import_module("edge_client.torch_runtime")  # before the fork, so that workers share its pages
    logging.basicConfig(level=logging.ERROR, format="%(name)s: %(message)s")
    workforce = Workforce(options.workers)
    conversation = Conversation(socket.socket(fileno=options.socket), workforce)
    try:
        conversation.serve()
    except EOFError:
        return 0
    except GradsieveError as error:
        conversation.complain(str(error))
        return 1
    finally:
        workforce.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
