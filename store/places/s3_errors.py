"""What a server of S3 answered when it did not do as asked, in one line each."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator
from typing import Final

from obstore import exceptions

from store.errors import AccessDenied, StoreError, StoreFull, StoreNotFound, StoreUnreachable
from store.places._base import Place

_EXPIRED: Final = {"ExpiredToken", "TokenRefreshRequired", "RequestExpired", "ExpiredTokenException"}
_UNKNOWN_KEYS: Final = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthorizationHeaderMalformed"}
_FULL: Final = {"QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity", "EntityTooLarge"}
_BUSY: Final = {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests"}


class Conflict(StoreUnreachable):
    """The key exists already (412), or somebody else is writing it just now (409)."""


@contextlib.contextmanager
def translated(place: Place, key: str) -> Generator[None]:
    """Turn obstore's errors into the store's.

    Raises:
        FileNotFoundError: there is no such key.
        StoreNotFound: there is no such bucket.
        AccessDenied: wrong, expired or insufficient credentials, or none.
        StoreFull: a quota is used up.
        Conflict, StoreUnreachable: worth another attempt.
    """
    try:
        yield
    except StoreError:
        raise
    except FileNotFoundError as error:
        if _code(str(error)) == "NoSuchBucket":
            raise _no_bucket(place) from None
        raise FileNotFoundError(f"{place.name(key)} does not exist") from None
    except exceptions.AlreadyExistsError as error:
        raise Conflict(f"another writer is at {place.name(key)}") from error
    except (exceptions.BaseError, OSError) as error:
        raise _explained(place, key, str(error)) from error


def _explained(place: Place, key: str, text: str) -> StoreError:
    code, name = _code(text), place.name(key)
    status = int(found[1]) if (found := re.search(r"status code: (\d{3})", text)) else 0
    if code == "NoSuchBucket":
        return _no_bucket(place)
    if code in _FULL or status == 507:
        return StoreFull(f"no space left to write {name} ({code or status}): free some, or raise the quota")
    if code in _EXPIRED:
        return AccessDenied(f"the credentials for {name} have expired ({code}): renew them and start again")
    if code in _UNKNOWN_KEYS:
        return AccessDenied(f"the server does not know these credentials for {name} ({code}): check the AWS_ variables")
    if status in (401, 403):
        return AccessDenied(
            f"access to {name} was denied ({code or status}): check the credentials, whether they have expired, "
            "and what they allow"
        )
    if "169.254.169.254" in text or "CredentialsProvider" in text or "credentials" in text.lower().split("debug")[0]:
        return AccessDenied(f"there are no credentials for {name}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if code in _BUSY or status in (429, 503):
        return StoreUnreachable(f"the server is too busy for {name} ({code or status}), also after several attempts")
    if status >= 500:
        return StoreUnreachable(f"the server failed on {name} ({code or status}), also after several attempts")
    if status:
        return StoreError(f"the server refused {name} ({code or status}): {_message(text)}")
    if "Timeout" in text or "timed out" in text:
        return StoreUnreachable(f"no answer in time for {name}, also after several attempts; is the server up?")
    return StoreUnreachable(f"{name} cannot be reached at {place.address.rpartition('/')[0]}: {_message(text)}")


def _no_bucket(place: Place) -> StoreNotFound:
    bucket = place.name("")
    return StoreNotFound(f"there is no bucket {bucket}; check its name and AWS_ENDPOINT_URL, or make it first")


def _code(text: str) -> str:
    found = re.search(r"<Code>(\w+)</Code>", text)
    return found[1] if found else ""


def _message(text: str) -> str:
    """The server's sentence, or the end of the first line, where the client library puts the cause."""
    if found := re.search(r"<Message>(.*?)</Message>", text, re.DOTALL):
        return " ".join(found[1].split())
    return text.splitlines()[0].rpartition(" - ")[2].strip()
