"""The way to the broker below MQTT: name, TCP, TLS and the broker's certificate."""

import socket
import ssl
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509

from edge_client.doctor.finding import Finding
from shared import paho_reasons as reasons
from shared.paho_transport import tls_context
from shared.settings import BrokerSettings, TlsSettings

SOON = timedelta(days=30)
NOT_YET_VALID, EXPIRED = 9, 10
"""OpenSSL's numbers of what is wrong with the dates of a certificate."""


def tcp(broker: BrokerSettings) -> Sequence[Finding]:
    """Whether anything listens at the broker's address."""
    began = time.monotonic()
    try:
        socket.create_connection((broker.host, broker.port), broker.connect_timeout_seconds).close()
    except OSError as error:
        return [Finding.of_error("broker", reasons.unreachable(broker, error))]
    except UnicodeError:
        return [Finding.of_error("broker", reasons.unnamable(broker))]
    return [Finding.ok("broker", f"{broker.address} answers after {1000 * (time.monotonic() - began):.0f} ms")]


def tls(broker: BrokerSettings, files: TlsSettings, now: datetime) -> Sequence[Finding]:
    """Whether the broker proves who it is, and until when; `now` in UTC."""
    context = tls_context(files)
    try:
        with (
            socket.create_connection((broker.host, broker.port), broker.connect_timeout_seconds) as plain,
            context.wrap_socket(plain, server_hostname=broker.host) as secured,
        ):
            version, certificate = secured.version(), secured.getpeercert(binary_form=True)
    except ssl.SSLCertVerificationError as error:
        return [_untrusted(broker, error, now)]
    except OSError as error:
        return [Finding.of_error("TLS", reasons.unreachable(broker, error))]
    ends = x509.load_der_x509_certificate(certificate or b"").not_valid_after_utc
    if ends - now < SOON:
        text = f"{version}; the broker's certificate ends on {ends:%F}"
        return [Finding.warn("TLS", text, "tell who runs the broker: with an outdated one no board connects")]
    return [Finding.ok("TLS", f"{version}; the broker's certificate is good until {ends:%F}")]


def _untrusted(broker: BrokerSettings, error: ssl.SSLCertVerificationError, now: datetime) -> Finding:
    if error.verify_code not in (NOT_YET_VALID, EXPIRED):
        return Finding.of_error("TLS", reasons.unreachable(broker, error))
    text = f"{broker.address}: {error.verify_message}, if it is {now:%F %R} UTC as our clock says"
    return Finding.fail("TLS", text, "set the clock, or have the broker's certificate renewed")


def utc_now() -> datetime:
    """The time of this machine."""
    return datetime.now(UTC)
