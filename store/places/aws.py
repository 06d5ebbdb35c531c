"""Endpoint, region and keys as the AWS tools read them: environment first, then the files in `~/.aws`.

What is found nowhere is left to the client library: web identity, container and instance roles.
"""

from __future__ import annotations

import configparser
import os
from pathlib import Path
from typing import NamedTuple

from store.errors import AccessDenied


class Settings(NamedTuple):
    """How to reach S3; empty where nothing was set."""

    endpoint: str
    region: str
    access_key_id: str
    secret_access_key: str
    session_token: str
    attempts: int
    """Requests before giving up, from `AWS_MAX_ATTEMPTS`."""


ATTEMPTS = 6
"""Where `AWS_MAX_ATTEMPTS` is not set: with growing pauses, about half a minute."""


def read() -> Settings:
    """The settings of this process.

    Raises:
        AccessDenied: `AWS_PROFILE` names a profile that is in no file, or one that needs a login.
    """
    env, profile = os.environ, _profile()
    own = "AWS_ACCESS_KEY_ID" in env
    return Settings(
        endpoint=env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or profile.get("endpoint_url", ""),
        region=env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or profile.get("region", ""),
        access_key_id=env["AWS_ACCESS_KEY_ID"] if own else profile.get("aws_access_key_id", ""),
        secret_access_key=env.get("AWS_SECRET_ACCESS_KEY", "") if own else profile.get("aws_secret_access_key", ""),
        session_token=env.get("AWS_SESSION_TOKEN", "") if own else profile.get("aws_session_token", ""),
        attempts=max(1, int(attempts)) if (attempts := env.get("AWS_MAX_ATTEMPTS", "")).isdecimal() else ATTEMPTS,
    )


def _profile() -> dict[str, str]:
    """The chosen profile's settings from the credentials and the config file."""
    home = Path(os.path.expanduser("~")) / ".aws"
    chosen = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"
    config = _section(os.environ.get("AWS_CONFIG_FILE") or home / "config", chosen, f"profile {chosen}")
    keys = _section(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials", chosen)
    found = {**(config or {}), **(keys or {})}
    if config is None and keys is None and chosen != "default":
        raise AccessDenied(f"AWS_PROFILE is {chosen!r}, which neither ~/.aws/credentials nor ~/.aws/config holds")
    login = sorted(name for name in found if name.startswith("sso_") or name in ("role_arn", "credential_process"))
    if login and "aws_access_key_id" not in found and "AWS_ACCESS_KEY_ID" not in os.environ:
        raise AccessDenied(
            f"the profile {chosen!r} gets its keys through {login[0]}, which is not read here; run: "
            f'eval "$(aws configure export-credentials --profile {chosen} --format env)"'
        )
    return found


def _section(path: str | Path, *names: str) -> dict[str, str] | None:
    """The first section of an INI file that has one of `names`."""
    parser = configparser.RawConfigParser()
    try:
        parser.read(path)
    except configparser.Error as error:
        raise AccessDenied(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    return next((dict(parser[name]) for name in names if parser.has_section(name)), None)
