"""How each kind of store is opened: its credentials by its own ways, its address; knows no object."""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

from f1hbase.stores.files.urls import Location

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config

_RETRY: RetryConfig = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=15),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}
"""Bridges a lost connection; what lasts longer is waited for by `Objects`, which knows how patient to be."""


def open_client(location: Location, environment: Mapping[str, str] = os.environ) -> ObjectStore:
    """Return the client of a location; asks nothing of it yet.

    Raises:
        obstore.exceptions.BaseError: If its settings make no sense.
    """
    if location.is_local:
        return LocalStore(location.root)
    client: ClientConfig = {"timeout": timedelta(seconds=60), "connect_timeout": timedelta(seconds=5)}
    prefix = location.prefix or None
    if location.scheme == "gs":
        # The JSON text itself, where there is no file to put it in.
        key = environment.get("GOOGLE_CREDENTIALS")
        if key:
            return GCSStore(
                location.root, prefix=prefix, client_options=client, retry_config=_RETRY, service_account_key=key
            )
        return GCSStore(location.root, prefix=prefix, client_options=client, retry_config=_RETRY)
    if location.scheme == "az":
        return AzureStore(location.root, prefix=prefix, client_options=client, retry_config=_RETRY)
    config, endpoint = _aws(environment), _endpoint(environment)
    if endpoint is not None:
        config["endpoint"] = endpoint
        client["allow_http"] = endpoint.startswith("http://")
    return S3Store(location.root, prefix=prefix, config=config, client_options=client, retry_config=_RETRY)


def _endpoint(environment: Mapping[str, str]) -> str | None:
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT_URL", "AWS_ENDPOINT")
    return next((environment[name] for name in names if environment.get(name)), None)


def _aws(environment: Mapping[str, str]) -> S3Config:
    """Return what the profile in `~/.aws` says, which the client itself does not read; the environment goes first."""
    config: S3Config = {}
    profile = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or "default"
    keys = _section(environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials", profile)
    rest = _section(
        environment.get("AWS_CONFIG_FILE") or "~/.aws/config", profile if profile == "default" else f"profile {profile}"
    )
    if not environment.get("AWS_ACCESS_KEY_ID") and "aws_access_key_id" in keys:
        config["access_key_id"] = keys["aws_access_key_id"]
        config["secret_access_key"] = keys.get("aws_secret_access_key", "")
        if "aws_session_token" in keys:
            config["session_token"] = keys["aws_session_token"]
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or rest.get("region")
    if region:
        config["region"] = region
    return config


def _section(path: str, name: str) -> Mapping[str, str]:
    # A section [default] is one like any other.
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        parser.read(Path(path).expanduser())
        return dict(parser[name]) if parser.has_section(name) else {}
    except (configparser.Error, OSError, UnicodeDecodeError, RuntimeError):
        # As the aws command does not load from another tool's file either; the store will say what is missing.
        return {}
