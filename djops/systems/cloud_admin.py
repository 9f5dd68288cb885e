"""AWS as whoever runs djops: what the stacks left in Secrets Manager, and the key that djops works with.

Used when an environment is brought up, and not afterwards.
"""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

import boto3
import botocore.exceptions

from djops.errors import AccessDeniedError, DjopsError, ServerUnavailableError
from djops.systems.connections import Secret

_RDS_AUTHORITIES = "https://truststore.pki.rds.amazonaws.com/{region}/{region}-bundle.pem"
"""The authorities that sign the certificates of RDS in a region (AWS' documentation of RDS)."""

_SECONDS = 30

_NOT_THERE = ("ParameterNotFound", "ResourceNotFoundException")


class Administrator:
    """The account of AWS, as the caller's own credentials.

    Args:
        region: AWS region.
        profile: A profile of the AWS configuration; ``None`` for what the environment says.
    """

    def __init__(self, region: str, profile: str | None) -> None:
        with _explained("credentials"):
            self._session = boto3.session.Session(profile_name=profile, region_name=region)
        self._region = region

    def secret(self, arn: str) -> Mapping[str, Any]:
        """Read a secret of Secrets Manager that holds JSON.

        Args:
            arn: The secret's ARN.

        Raises:
            DjopsError: ``E_NO_SECRET`` when it is empty so far; or AWS refuses.
        """
        with _explained("secretsmanager:GetSecretValue"):
            answer = self._session.client("secretsmanager").get_secret_value(SecretId=arn)
        try:
            found = json.loads(answer["SecretString"])
        except (KeyError, ValueError):
            found = None
        if not isinstance(found, dict):
            raise DjopsError("this secret does not hold what was expected", where=arn, code="E_NO_SECRET")
        return found

    def put_secret(self, arn: str, content: Mapping[str, Any]) -> None:
        """Write a new version of a secret of Secrets Manager, as JSON.

        Args:
            arn: The secret's ARN.
            content: What it holds from then on.
        """
        with _explained("secretsmanager:PutSecretValue"):
            self._session.client("secretsmanager").put_secret_value(
                SecretId=arn, SecretString=json.dumps(dict(content))
            )

    def parameter(self, name: str) -> str:
        """Read a parameter of SSM.

        Args:
            name: The parameter's name.
        """
        with _explained("ssm:GetParameter"):
            return str(self._session.client("ssm").get_parameter(Name=name)["Parameter"]["Value"])

    def keys(self, user: str) -> tuple[str, ...]:
        """Return the ids of an IAM user's access keys.

        Args:
            user: The user.
        """
        with _explained("iam:ListAccessKeys"):
            found = self._session.client("iam").list_access_keys(UserName=user)["AccessKeyMetadata"]
        return tuple(str(one["AccessKeyId"]) for one in found)

    def new_key(self, user: str) -> tuple[str, Secret]:
        """Make an access key for an IAM user.

        Args:
            user: The user.

        Returns:
            Its id and its secret.
        """
        with _explained("iam:CreateAccessKey"):
            made = self._session.client("iam").create_access_key(UserName=user)["AccessKey"]
        return str(made["AccessKeyId"]), Secret(str(made["SecretAccessKey"]))

    def delete_key(self, user: str, key: str) -> None:
        """Remove an access key of an IAM user.

        Args:
            user: The user.
            key: The key's id.
        """
        with _explained("iam:DeleteAccessKey"):
            self._session.client("iam").delete_access_key(UserName=user, AccessKeyId=key)

    def rds_authorities(self) -> str:
        """Fetch the certificates of the authorities that RDS' servers are signed by.

        Raises:
            ServerUnavailableError: They cannot be fetched.
        """
        url = _RDS_AUTHORITIES.format(region=self._region)
        try:
            with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310  a constant https address
                return str(answer.read().decode("ascii"))
        except (OSError, UnicodeDecodeError) as error:
            raise ServerUnavailableError(
                f"the authorities of RDS' certificates cannot be fetched: {type(error).__name__}",
                where=url,
                hint="fetch the file by other means, and name it with `existing: {database: {ca: ...}}`",
            ) from None


@contextlib.contextmanager
def _explained(action: str) -> Iterator[None]:
    try:
        yield
    except botocore.exceptions.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        kind = AccessDeniedError if "AccessDenied" in code else DjopsError
        other = "E_NO_SECRET" if code in _NOT_THERE else "E_AWS"
        raise kind(
            f"AWS refuses {action}: {code}",
            where="AWS",
            code=None if kind is AccessDeniedError else other,
            hint="`djops cloud check` tells which permission lacks",
        ) from None
    except botocore.exceptions.BotoCoreError as error:
        raise DjopsError(
            f"AWS cannot be asked: {error}", where="AWS", code="E_AWS", hint="see `djops cloud check`"
        ) from None
