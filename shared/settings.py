"""What every program of the project must be told about the broker, and how a settings file is read."""

import difflib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from shared.errors import SettingsError

M = TypeVar("M", bound=BaseModel)

LONGEST_PASSWORD = 1024


class TlsSettings(BaseModel):
    """Files for a TLS connection; certificate and key together make it mutual."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    ca_file: Path = Field(description="PEM file with the certificate authority that signed the broker's certificate")
    cert_file: Path | None = Field(None, description="PEM file with our certificate; its common name is the device")
    key_file: Path | None = Field(None, description="PEM file with the private key of cert_file")

    @model_validator(mode="after")
    def _certificate_has_its_key(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file must be given together")
        return self


class BrokerLogin(BaseModel):
    """Where an MQTT 5 broker is, and who we are to it."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    host: str = Field("127.0.0.1", min_length=1, description="host name or address of the broker")
    port: int = Field(1883, ge=1, le=65535, description="TCP port of the broker's MQTT 5 listener")
    username: str | None = Field(None, description="login name, where the broker asks for one")
    password: SecretStr | None = Field(None, description="password of username; better given by the environment")
    password_file: Path | None = Field(None, description="file that holds it, in place of password")
    tls: TlsSettings | None = Field(None, description="certificate files; absent means no encryption")

    @model_validator(mode="after")
    def _password_is_given_once(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("both password and password_file: leave one out")
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs username")
        return self

    @property
    def address(self) -> str:
        """The broker as people write it, `host:port`."""
        return f"{self.host}:{self.port}"

    def with_password(self) -> Self:
        """The same with the password in place of its file; raises `SettingsError` where that cannot be used."""
        if self.password_file is None:
            return self
        try:
            with self.password_file.open(encoding="utf-8") as file:
                password = file.read(LONGEST_PASSWORD + 1).rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise SettingsError(f"password_file {self.password_file}: cannot be read ({reason}): check it") from None
        if not 0 < len(password) < LONGEST_PASSWORD or "\n" in password:
            raise SettingsError(f"password_file {self.password_file}: put the password there, on one line, alone")
        return self.model_copy(update={"password": SecretStr(password), "password_file": None})


class BrokerSettings(BrokerLogin):
    """Where the coordinator's MQTT 5 broker is and how to talk to it."""

    keepalive_seconds: int = Field(
        60, ge=5, le=65535, description="silence after which either end gives up on the other"
    )
    connect_timeout_seconds: float = Field(30.0, gt=0, le=600, description="how long one attempt to connect may take")
    max_chunk_bytes: int = Field(
        65536, ge=1024, le=1 << 24, description="longest piece of an object in one message, whatever the broker allows"
    )


def split_address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, an IPv6 host in brackets; raises `ValueError` saying how to write it."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 1 << 16:
        raise ValueError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:1883")
    return host.removeprefix("[").removesuffix("]"), int(port)


def load_settings(
    model: type[M],
    file: Path | None,
    env_prefix: str,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, tuple[str, str]] | None = None,
) -> M:
    """`model` from a TOML file, overridden by variables such as `{env_prefix}BROKER__PORT`, and those by `flags`.

    A flag has a variable's name without the prefix, and is given as what the user typed (`--broker`) and its text. A
    text that starts with `[` or `{` is read as JSON. Raises `SettingsError`, in one line that names the file, variable
    or flag, the key and a remedy.
    """
    values = _read_toml(file) if file is not None else {}
    variables = _variables(os.environ if environment is None else environment, env_prefix)
    typed = {_path(name): given for name, given in (flags or {}).items()}
    variables = {path: given for path, given in variables.items() if path not in typed} | typed
    for path, (name, text) in sorted(variables.items()):
        _override(values, path, _env_value(name, text), name)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_explain(model, error, file, env_prefix, variables)) from None


def _read_toml(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read ({error.strerror}): check the path") from error
    except ValueError as error:  # bad UTF-8 or bad TOML
        raise SettingsError(f"{file}: is not valid TOML: {error}") from error


def _variables(environment: Mapping[str, str], prefix: str) -> dict[tuple[str, ...], tuple[str, str]]:
    """Key path -> what an error calls the variable, and its text."""
    return {
        _path(name.removeprefix(prefix)): (f"environment variable {name}", text)
        for name, text in environment.items()
        if name.startswith(prefix)
    }


def _path(name: str) -> tuple[str, ...]:
    return tuple(name.lower().split("__"))


def _env_value(name: str, text: str) -> object:
    if not text.startswith(("[", "{")):
        return text
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"{name}: is not valid JSON: {error}") from error
    return value


def _override(values: dict[str, object], path: tuple[str, ...], value: object, name: str) -> None:
    for key in path[:-1]:
        child = values.setdefault(key, {})
        if not isinstance(child, dict):
            raise SettingsError(f"{name}: {key} is a single value, nothing can be below it")
        values = child
    values[path[-1]] = value


def _explain(
    model: type[BaseModel],
    error: ValidationError,
    file: Path | None,
    prefix: str,
    variables: Mapping[tuple[str, ...], tuple[str, str]],
) -> str:
    """The first fault in one line; never the value, which may be a secret."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    first, rest = faults[0], len(faults) - 1
    location = tuple(str(part) for part in first["loc"])
    variable = variables.get(location)
    source = variable[0] if variable else str(file or "settings")
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        text = f"unknown key {key}{_hint(model, location)}"
    elif first["type"] == "missing":
        variable_name = f" or as {prefix}{'__'.join(location).upper()}" if prefix else ""
        text = f"{key} is missing: set it in the file{variable_name}"
    else:
        fault = first["msg"].removeprefix("Value error, ")
        text = f"{key}: {fault}" if key else fault
    return f"{source}: {text}" + (f" (and {rest} more)" if rest else "")


def _hint(model: type[BaseModel], location: tuple[str, ...]) -> str:
    parent: type[BaseModel] | None = model
    for part in location[:-1]:
        field = parent.model_fields.get(part) if parent else None
        parent = next(_models_in(field.annotation), None) if field else None
    if parent is None:
        return ""
    close = difflib.get_close_matches(location[-1], parent.model_fields, n=1)
    return f": did you mean {close[0]}?" if close else f": known keys are {', '.join(parent.model_fields)}"


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """The models an annotation such as `TlsSettings | None` names."""
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return (option for option in options if isinstance(option, type) and issubclass(option, BaseModel))
