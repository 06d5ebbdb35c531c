"""Endpoint, region and keys come from where the AWS tools take them, in their order."""

from __future__ import annotations

from pathlib import Path

import pytest

import store
from store.places import aws

CREDENTIALS = """
[default]
aws_access_key_id = first
aws_secret_access_key = one
[work]
aws_access_key_id = second
aws_secret_access_key = two%percent
aws_session_token = three
"""
CONFIG = """
[default]
region = eu-central-1
[profile work]
region = us-west-2
endpoint_url = http://127.0.0.1:1
[profile login]
sso_start_url = https://login
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with both files, and an environment without AWS."""
    import os

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(CREDENTIALS)
    (tmp_path / ".aws" / "config").write_text(CONFIG)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_default_profile():
    assert aws.read() == aws.Settings("", "eu-central-1", "first", "one", "", aws.ATTEMPTS)


def test_a_chosen_profile(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert aws.read() == aws.Settings("http://127.0.0.1:1", "us-west-2", "second", "two%percent", "three", aws.ATTEMPTS)


def test_the_environment_comes_first(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "work")
    for name, value in {
        "AWS_ACCESS_KEY_ID": "mine",
        "AWS_SECRET_ACCESS_KEY": "own",
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:2",
        "AWS_MAX_ATTEMPTS": "3",
    }.items():
        monkeypatch.setenv(name, value)
    assert aws.read() == aws.Settings("http://127.0.0.1:2", "eu-west-1", "mine", "own", "", 3)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:3")
    assert aws.read().endpoint == "http://127.0.0.1:3"


def test_no_files_at_all(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home / "elsewhere"))
    assert aws.read() == aws.Settings("", "", "", "", "", aws.ATTEMPTS)


def test_files_elsewhere(home, monkeypatch):
    (home / "other").write_text("[default]\naws_access_key_id = other\naws_secret_access_key = x\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "other"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "none"))
    assert aws.read()[1:4] == ("", "other", "x")


def test_a_profile_that_is_nowhere(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(store.AccessDenied, match="AWS_PROFILE is 'nobody'"):
        aws.read()


def test_a_profile_that_needs_a_login(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "login")
    with pytest.raises(store.AccessDenied, match=r"sso_start_url.*export-credentials --profile login"):
        aws.read()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "exported")
    assert aws.read().access_key_id == "exported"


def test_a_file_that_makes_no_sense(home):
    (home / ".aws" / "config").write_text("region = eu")
    with pytest.raises(store.AccessDenied, match="config cannot be read"):
        aws.read()


@pytest.mark.parametrize("attempts", ["", "none", "-1", "0"])
def test_attempts_are_at_least_one(attempts, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", attempts)
    assert aws.read().attempts >= 1
