"""Why a connection could not be made, or ended, in words that name the remedy."""

import socket
import ssl

from paho.mqtt.reasoncodes import ReasonCode

from shared.settings import BrokerSettings

REMEDIES = {
    "Bad user name or password": "check broker.username and broker.password",
    "Not authorized": "check broker.username and broker.password, and the certificate's common name",
    "Unsupported protocol version": "use the broker's MQTT 5 listener",
    "Client identifier not valid": "the broker may want the certificate's common name as client id",
    "Session taken over": "another program uses the same client id",
    "Receive maximum exceeded": "raise the broker's max_inflight_messages to 20",
    "Packet too large": "lower broker.max_chunk_bytes or raise the broker's max_packet_size",
    "Keep alive timeout": "the link is too slow for broker.keepalive_seconds",
}


def unreachable(settings: BrokerSettings, error: OSError) -> str:
    """No connection came about."""
    address = settings.address
    match error:
        case ConnectionRefusedError():
            return f"{address} refused the connection: is the broker running, and is broker.port right?"
        case socket.gaierror():
            return f"host name {settings.host!r} cannot be resolved: check broker.host and the network"
        case ssl.SSLCertVerificationError():
            return f"{address} has a certificate we do not trust ({error.verify_message}): check broker.tls.ca_file"
        case ssl.SSLError():
            return (
                f"{address} failed the TLS handshake ({error.reason}): is it a TLS listener, and our certificate valid?"
            )
        case TimeoutError():
            return (
                f"{address} did not answer within {settings.connect_timeout_seconds:g} s: check broker.host, firewall"
            )
    return f"{address} cannot be reached: {error.strerror or error}"


def unnamable(settings: BrokerSettings) -> str:
    """The host is no name that the name service takes."""
    return f"host name {settings.host[:80]!r} is not a valid one: check broker.host"


def cramped(settings: BrokerSettings, packet_limit_bytes: int, needed_bytes: int) -> str:
    """The broker takes only packets that are too small for us."""
    taken = f"takes packets of at most {packet_limit_bytes} bytes"
    return f"{settings.address} {taken}, we need {needed_bytes}: raise the broker's max_packet_size"


def silent(settings: BrokerSettings) -> str:
    """TCP connected, but no CONNACK came."""
    waited = f"{settings.connect_timeout_seconds:g} s"
    return f"{settings.address} accepted the connection but was silent for {waited}: is it an MQTT broker?"


def foreign(settings: BrokerSettings, error: Exception) -> str:
    """What came is not MQTT."""
    return f"{settings.address} sent what is not MQTT 5 ({error}): is it an MQTT broker?"


def rejected(settings: BrokerSettings, code: ReasonCode) -> str:
    """The broker answered CONNECT with a refusal."""
    return f"{settings.address} rejected us: {_with_remedy(code)}"


def lost(settings: BrokerSettings, code: ReasonCode, by_broker: bool, was_connected: bool) -> str:
    """An open connection ended; `was_connected` is false when the broker had not accepted us yet."""
    if by_broker:
        return f"{settings.address} ended the connection: {_with_remedy(code)}"
    if not was_connected:
        return (
            f"{settings.address} closed the connection without an answer: is it an MQTT 5 listener, with or without "
            "TLS as we are, and does it trust our certificate?"
        )
    if str(code) == "Keep alive timeout":
        return f"{settings.address} was silent for longer than broker.keepalive_seconds: check the network"
    return f"the connection to {settings.address} was lost"


def denied(topic: str, code: ReasonCode, settings: BrokerSettings) -> str:
    """The broker refused one publication or subscription."""
    return f"{topic}: {settings.address} refused it ({code}): check the broker's access rules for this client"


def _with_remedy(code: ReasonCode) -> str:
    remedy = REMEDIES.get(str(code))
    return f"{code}: {remedy}" if remedy else str(code)
