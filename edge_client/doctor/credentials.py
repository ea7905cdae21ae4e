"""The files that say who this board is and whom it obeys: signing keys, policy, certificate, private key."""

import datetime
import stat
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from edge_client.doctor.finding import Finding
from edge_client.policy import load_policy
from edge_client.settings import EdgeSettings
from shared.errors import SettingsError
from shared.paho_transport import tls_context

SOON = datetime.timedelta(days=30)
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def signers(settings: EdgeSettings) -> Sequence[Finding]:
    """Whether the coordinator's public keys can be read."""
    try:
        keys = settings.signer_keys()
    except SettingsError as error:
        return [Finding.of_error("keys", error)]
    return [Finding.ok("keys", f"obeys the coordinator of {', '.join(f'{key.hex[:8]}…' for key in keys)}")]


def policy(settings: EdgeSettings) -> Sequence[Finding]:
    """Whether what the owner agrees to can be read."""
    if settings.policy is None:
        return [Finding.ok("policy", "none: whatever a trusted coordinator asks for is done")]
    try:
        load_policy(settings.policy)
    except SettingsError as error:
        return [Finding.of_error("policy", error)]
    return [Finding.ok("policy", f"{settings.policy} can be read")]


def certificates(settings: EdgeSettings, now: datetime.datetime) -> Sequence[Finding]:
    """Whether the TLS files can be used, and our own certificate says who we are, now (UTC) and in a month."""
    tls = settings.broker.tls
    if tls is None:
        return [_unencrypted(settings)]
    try:
        tls_context(tls)
    except SettingsError as error:
        return [Finding.of_error("certificate", error)]
    if tls.cert_file is None or tls.key_file is None:
        return [Finding.ok("certificate", f"the broker's is checked against {tls.ca_file}; none of our own")]
    return [_own_certificate(tls.cert_file, settings.name, now), *_exposed(tls.key_file)]


def _unencrypted(settings: EdgeSettings) -> Finding:
    if settings.broker.host in LOOPBACK:
        return Finding.ok("certificate", "no TLS, and the broker is on this machine")
    text = "no TLS: whoever is on the way can read and change what passes"
    return Finding.warn("certificate", text, "set [broker.tls], see deploy/mosquitto")


def _own_certificate(file: Path, name: str, now: datetime.datetime) -> Finding:
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError) as error:
        return Finding.fail("certificate", f"{file} cannot be used ({error})", "give a certificate in PEM form")
    names = [str(entry.value) for entry in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        return Finding.fail("certificate", f"{file} is good from {begins:%F} and it is {now:%F}", "set the clock")
    if now > ends:
        return Finding.fail("certificate", f"{file} ended on {ends:%F} and it is {now:%F}", "have a new one issued")
    if name not in names:
        text = f"{file} is for {', '.join(names) or 'nobody'} and this board is {name}"
        return Finding.warn("certificate", text, "name and common name must agree where the broker goes by the latter")
    if ends - now < SOON:
        return Finding.warn("certificate", f"{file} ends on {ends:%F}", "have a new one issued")
    return Finding.ok("certificate", f"{file} is {name}'s, until {ends:%F}")


def _exposed(key_file: Path) -> Sequence[Finding]:
    if key_file.stat().st_mode & stat.S_IROTH:
        return [Finding.warn("certificate", f"{key_file} can be read by everybody", f"chmod o= {key_file}")]
    return []
