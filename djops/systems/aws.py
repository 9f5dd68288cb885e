"""AWS as the account that provisions: one client for each service, and errors that say what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import boto3
import botocore.exceptions
from botocore import xform_name
from botocore.config import Config

from djops.errors import AccessDeniedError, ConfigError, DjopsError, ServerUnavailableError

_DENIED = re.compile(r"AccessDenied|Unauthorized|NotAuthorized|Forbidden|^403$|OptInRequired")
_BAD_KEY = re.compile(
    r"InvalidClientTokenId|SignatureDoesNotMatch|ExpiredToken|AuthFailure|InvalidAccessKeyId"
)
_PATIENCE = Config(connect_timeout=10, read_timeout=30, retries={"mode": "standard", "max_attempts": 3})


class AwsRefusedError(DjopsError):
    """AWS understood a request and said no.

    Attributes:
        reason: AWS's own code for it.
    """

    code = "E_AWS"

    def __init__(self, message: str, reason: str, *, where: str, hint: str | None = None) -> None:
        super().__init__(message, where=where, hint=hint)
        self.reason = reason


@dataclass(frozen=True)
class Identity:
    """Who the credentials belong to.

    Attributes:
        account: Id of the AWS account.
        arn: The user, the role in use, or the account's root.
    """

    account: str
    arn: str

    @property
    def is_root(self) -> bool:
        """Whether it is the account's root, whom nothing limits."""
        return self.arn.endswith(":root")

    @property
    def role(self) -> str | None:
        """The name of the role in use, without its path; ``None`` for a user."""
        found = re.fullmatch(r"arn:[\w-]+:sts::\d+:assumed-role/([^/]+)/.+", self.arn)
        return found[1] if found else None


class Aws:
    """One account of AWS in one region, with the credentials that boto3 finds.

    Args:
        region: Region; must be set where a service is regional.
        profile: A profile of the AWS configuration; ``None`` for what the environment says.

    Raises:
        ConfigError: ``E_AWS_PROFILE`` when there is no such profile.
    """

    def __init__(self, region: str, profile: str | None = None) -> None:
        try:
            self._session = boto3.Session(profile_name=profile, region_name=region)
        except botocore.exceptions.ProfileNotFound:
            raise ConfigError(
                f"the AWS configuration has no profile {profile!r}",
                code="E_AWS_PROFILE",
                hint="`aws configure list-profiles` names them; mend `profile:` in djops.yaml",
            ) from None
        self.region = region
        self._clients: dict[str, Any] = {}

    def regions(self) -> list[str]:
        """Return the regions that the library knows, enabled for this account or not."""
        return self._session.get_available_regions("ec2")

    def ask(self, service: str, action: str, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401
        """Send one request.

        Args:
            service: As boto3 calls it.
            action: Name of the action as AWS documents it.
            parameters: Its parameters.

        Returns:
            The answer.

        Raises:
            AccessDeniedError: ``E_AWS_CREDENTIALS`` without valid credentials, ``E_DENIED`` when they
                may not.
            AwsRefusedError: ``E_AWS`` when AWS says no for another reason.
            ServerUnavailableError: ``E_SERVER`` when it does not answer.
        """
        try:
            return self._call(service, action, parameters)
        except botocore.exceptions.ClientError as error:
            raise _explained(error, service, action, self.region) from None
        except (
            botocore.exceptions.NoCredentialsError,
            botocore.exceptions.PartialCredentialsError,
            botocore.exceptions.TokenRetrievalError,
            botocore.exceptions.UnauthorizedSSOTokenError,
            botocore.exceptions.CredentialRetrievalError,
        ) as error:
            raise _no_credentials(type(error).__name__) from None
        except (botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError) as error:
            raise ServerUnavailableError(
                f"AWS does not answer: {type(error).__name__}",
                where=f"{service}, {self.region}",
                hint="look at the network, and at `region:` in djops.yaml",
            ) from None

    def find(self, service: str, action: str, **parameters: Any) -> Mapping[str, Any] | None:  # noqa: ANN401
        """Ask for something that may not be there; ``None`` when it is not.

        Args:
            service: As for :meth:`ask`.
            action: As for :meth:`ask`.
            parameters: As for :meth:`ask`.

        Raises:
            DjopsError: As :meth:`ask`.
        """
        try:
            return self.ask(service, action, **parameters)
        except AwsRefusedError as error:
            if re.search(r"NotFound|NoSuch|^404$|NotExist", error.reason):
                return None
            raise

    def listed(self, service: str, action: str, member: str, **parameters: Any) -> list[Any]:  # noqa: ANN401
        """Return everything that AWS lists page by page.

        Args:
            service: As for :meth:`ask`.
            action: As for :meth:`ask`.
            member: Where the answer has its list.
            parameters: As for :meth:`ask`.

        Raises:
            DjopsError: As :meth:`ask`.
        """
        found: list[Any] = []
        while True:
            answer = self.ask(service, action, **parameters)
            found += answer.get(member, ())
            more = {key: answer[key] for key in ("NextToken", "Marker") if answer.get(key)}
            if not more:
                return found
            parameters |= more

    def identity(self) -> Identity:
        """Tell whose credentials these are.

        Raises:
            DjopsError: As :meth:`ask`.
        """
        said = self.ask("sts", "GetCallerIdentity")
        return Identity(str(said["Account"]), str(said["Arn"]))

    def _call(self, service: str, action: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        if service not in self._clients:
            self._clients[service] = self._session.client(service, config=_PATIENCE)  # type: ignore[call-overload]
        answer: Mapping[str, Any] = getattr(self._clients[service], xform_name(action))(**parameters)
        return answer


def _no_credentials(reason: str) -> AccessDeniedError:
    return AccessDeniedError(
        f"there are no valid AWS credentials ({reason})",
        where="aws",
        code="E_AWS_CREDENTIALS",
        hint="log in, for example with `aws sso login` or `aws configure`, or name a profile in djops.yaml",
    )


def _explained(error: botocore.exceptions.ClientError, service: str, action: str, region: str) -> DjopsError:
    reason = str(error.response.get("Error", {}).get("Code", ""))
    if _BAD_KEY.search(reason):
        return _no_credentials(reason)
    where = f"{service}, {region}"
    if _DENIED.search(reason):
        return AccessDeniedError(
            f"AWS refused {service}:{action} to these credentials",
            where=where,
            hint="`djops cloud check` lists all that is needed",
        )
    said = str(error.response.get("Error", {}).get("Message", "")) or reason
    return AwsRefusedError(f"{action}: {reason}: {said}", reason, where=where)
