"""Databases, buckets, keys, secrets and logs."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from tests.support.aws_double.kinds import Kind, Props, kind, pascal


class _S3(Kind):
    """A part of a bucket: one call puts it, one gets it, one removes it."""

    @property
    def s3(self) -> Any:
        return self.client("s3")

    def create(self, p: Props) -> str:
        self.put(p["bucket"], p)
        return str(p["bucket"])

    def update(self, id_: str, p: Props, old: Props) -> None:
        self.put(p["bucket"], p)

    def put(self, bucket: str, p: Props) -> None:
        raise NotImplementedError


@kind("aws:s3/bucket:Bucket", named="bucket", replace="objectLockEnabled")
class Bucket(_S3):
    def put(self, bucket: str, p: Props) -> None:
        where = self.s3.meta.region_name
        more = {} if where == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": where}}
        self.s3.create_bucket(
            Bucket=bucket, ObjectLockEnabledForBucket=p.get("objectLockEnabled", False), **more
        )
        self.s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": self.tag_list(p)})

    def update(self, id_: str, p: Props, old: Props) -> None:
        self.s3.put_bucket_tagging(Bucket=id_, Tagging={"TagSet": self.tag_list(p)})

    def read(self, id_: str, p: Props) -> Props | None:
        try:
            self.s3.head_bucket(Bucket=id_)
        except ClientError:
            return None
        return {"arn": f"arn:aws:s3:::{id_}", "bucket": id_}

    def delete(self, id_: str, p: Props) -> None:
        self.s3.delete_bucket(Bucket=id_)


@kind("aws:s3/bucketVersioning:BucketVersioning", replace="bucket")
class BucketVersioning(_S3):
    def put(self, bucket: str, p: Props) -> None:
        self.s3.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": p["versioningConfiguration"]["status"]}
        )

    def read(self, id_: str, p: Props) -> Props | None:
        return {
            "versioningConfiguration": {
                "status": self.s3.get_bucket_versioning(Bucket=id_).get("Status", "Disabled")
            }
        }

    def delete(self, id_: str, p: Props) -> None:
        self.s3.put_bucket_versioning(Bucket=id_, VersioningConfiguration={"Status": "Suspended"})


@kind(
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration", replace="bucket"
)
class BucketEncryption(_S3):
    def put(self, bucket: str, p: Props) -> None:
        rules = []
        for rule in p["rules"]:
            by = rule["applyServerSideEncryptionByDefault"]
            asked = {"SSEAlgorithm": by["sseAlgorithm"]}
            if by.get("kmsMasterKeyId"):
                asked["KMSMasterKeyID"] = by["kmsMasterKeyId"]
            rules.append(
                {
                    "ApplyServerSideEncryptionByDefault": asked,
                    "BucketKeyEnabled": rule.get("bucketKeyEnabled", False),
                }
            )
        self.s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.s3.get_bucket_encryption(Bucket=id_)["ServerSideEncryptionConfiguration"]["Rules"]
        return {"algorithm": found[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"]}

    def delete(self, id_: str, p: Props) -> None:
        self.s3.delete_bucket_encryption(Bucket=id_)


_BLOCKS = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")


@kind("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock", replace="bucket")
class BucketPublicAccessBlock(_S3):
    def put(self, bucket: str, p: Props) -> None:
        wanted = pascal({key: p[key] for key in _BLOCKS})
        self.s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=wanted)

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.s3.get_public_access_block(Bucket=id_)["PublicAccessBlockConfiguration"]
        return {key: found[key[:1].upper() + key[1:]] for key in _BLOCKS}

    def delete(self, id_: str, p: Props) -> None:
        self.s3.delete_public_access_block(Bucket=id_)


@kind("aws:s3/bucketOwnershipControls:BucketOwnershipControls", replace="bucket")
class BucketOwnershipControls(_S3):
    def put(self, bucket: str, p: Props) -> None:
        self.s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={"Rules": [pascal(p["rule"])]})

    def read(self, id_: str, p: Props) -> Props | None:
        (found,) = self.s3.get_bucket_ownership_controls(Bucket=id_)["OwnershipControls"]["Rules"]
        return {"rule": {"objectOwnership": found["ObjectOwnership"]}}

    def delete(self, id_: str, p: Props) -> None:
        self.s3.delete_bucket_ownership_controls(Bucket=id_)


@kind("aws:s3/bucketPolicy:BucketPolicy", replace="bucket")
class BucketPolicy(_S3):
    def put(self, bucket: str, p: Props) -> None:
        self.s3.put_bucket_policy(Bucket=bucket, Policy=p["policy"])

    def read(self, id_: str, p: Props) -> Props | None:
        return {"policy": self.s3.get_bucket_policy(Bucket=id_)["Policy"]}

    def delete(self, id_: str, p: Props) -> None:
        self.s3.delete_bucket_policy(Bucket=id_)


@kind("aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration", replace="bucket")
class BucketLifecycle(_S3):
    def put(self, bucket: str, p: Props) -> None:
        rules = []
        for rule in p["rules"]:
            wanted = pascal({key: value for key, value in rule.items() if key != "id"})
            rules.append({"ID": rule["id"], **wanted})
        self.s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.s3.get_bucket_lifecycle_configuration(Bucket=id_)["Rules"]
        return {"ids": [rule["ID"] for rule in found]}

    def delete(self, id_: str, p: Props) -> None:
        self.s3.delete_bucket_lifecycle(Bucket=id_)


@kind("aws:s3/bucketLogging:BucketLogging", replace="bucket")
class BucketLogging(_S3):
    def put(self, bucket: str, p: Props) -> None:
        logs, wanted = (
            p["targetBucket"],
            {"TargetBucket": p["targetBucket"], "TargetPrefix": p["targetPrefix"]},
        )
        policy = self.s3.get_bucket_policy(Bucket=logs)["Policy"]
        allowing = [one for one in json.loads(policy)["Statement"] if one["Effect"] == "Allow"]
        if not any(one["Principal"].get("Service") == "logging.s3.amazonaws.com" for one in allowing):
            raise ValueError(f"S3 may not deliver logs into {logs}")
        # moto understands one way of writing the permission only; AWS understands all.
        delivery: dict[str, Any] = {
            "Effect": "Allow",
            "Principal": {"Service": "logging.s3.amazonaws.com"},
            "Action": "s3:PutObject",
            "Resource": f"arn:aws:s3:::{logs}/*",
        }
        plain = {"Version": "2012-10-17", "Statement": [delivery]}
        self.s3.put_bucket_policy(Bucket=logs, Policy=json.dumps(plain))
        self.s3.put_bucket_logging(Bucket=bucket, BucketLoggingStatus={"LoggingEnabled": wanted})
        self.s3.put_bucket_policy(Bucket=logs, Policy=policy)

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.s3.get_bucket_logging(Bucket=id_).get("LoggingEnabled")
        return (
            {"targetBucket": found["TargetBucket"], "targetPrefix": found["TargetPrefix"]} if found else None
        )

    def delete(self, id_: str, p: Props) -> None:
        self.s3.put_bucket_logging(Bucket=id_, BucketLoggingStatus={})


@kind("aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration", replace="bucket")
class BucketObjectLock(_S3):
    def put(self, bucket: str, p: Props) -> None:
        wanted = {"ObjectLockEnabled": "Enabled", "Rule": pascal(p["rule"])}
        self.s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=wanted)

    def read(self, id_: str, p: Props) -> Props | None:
        self.s3.get_object_lock_configuration(Bucket=id_)
        return {}

    def delete(self, id_: str, p: Props) -> None:
        pass


class _Rds(Kind):
    @property
    def rds(self) -> Any:
        return self.client("rds")


@kind("aws:rds/subnetGroup:SubnetGroup", named="name")
class SubnetGroup(_Rds):
    def create(self, p: Props) -> str:
        self.rds.create_db_subnet_group(
            DBSubnetGroupName=p["name"], DBSubnetGroupDescription="by Pulumi", SubnetIds=p["subnetIds"]
        )
        return str(p["name"])

    def read(self, id_: str, p: Props) -> Props | None:
        self.rds.describe_db_subnet_groups(DBSubnetGroupName=id_)
        return {}

    def delete(self, id_: str, p: Props) -> None:
        self.rds.delete_db_subnet_group(DBSubnetGroupName=id_)


@kind("aws:rds/parameterGroup:ParameterGroup", named="name", replace="family description")
class ParameterGroup(_Rds):
    def create(self, p: Props) -> str:
        self.rds.create_db_parameter_group(
            DBParameterGroupName=p["name"], DBParameterGroupFamily=p["family"], Description=p["description"]
        )
        self.update(p["name"], p, {})
        return str(p["name"])

    def read(self, id_: str, p: Props) -> Props | None:
        self.rds.describe_db_parameter_groups(DBParameterGroupName=id_)
        return {}

    def update(self, id_: str, p: Props, old: Props) -> None:
        wanted = [
            {"ParameterName": one["name"], "ParameterValue": one["value"], "ApplyMethod": one["applyMethod"]}
            for one in p["parameters"]
        ]
        self.rds.modify_db_parameter_group(DBParameterGroupName=id_, Parameters=wanted)

    def delete(self, id_: str, p: Props) -> None:
        self.rds.delete_db_parameter_group(DBParameterGroupName=id_)


@kind("aws:rds/optionGroup:OptionGroup", named="name", replace="engineName majorEngineVersion")
class OptionGroup(_Rds):
    """moto knows no option groups of MySQL 8.4: it is kept as one of 8.0."""

    def create(self, p: Props) -> str:
        self.rds.create_option_group(
            OptionGroupName=p["name"], EngineName=p["engineName"], MajorEngineVersion="8.0",
            OptionGroupDescription="by Pulumi",
        )  # fmt: skip
        return str(p["name"])

    def read(self, id_: str, p: Props) -> Props | None:
        self.rds.describe_option_groups(OptionGroupName=id_)
        return {}

    def delete(self, id_: str, p: Props) -> None:
        self.rds.delete_option_group(OptionGroupName=id_)


_DIRECT = {
    "instanceClass": "DBInstanceClass",
    "multiAz": "MultiAZ",
    "backupRetentionPeriod": "BackupRetentionPeriod",
    "deletionProtection": "DeletionProtection",
    "maxAllocatedStorage": "MaxAllocatedStorage",
    "allocatedStorage": "AllocatedStorage",
    "publiclyAccessible": "PubliclyAccessible",
}


@kind(
    "aws:rds/instance:Instance",
    named="identifier",
    replace="engine kmsKeyId storageEncrypted dbSubnetGroupName username replicateSourceDb",
)
class DatabaseInstance(_Rds):
    def create(self, p: Props) -> str:
        asked = {to: p[key] for key, to in _DIRECT.items() if key in p}
        if p.get("replicateSourceDb"):
            asked.pop("BackupRetentionPeriod", None)
            self.rds.create_db_instance_read_replica(
                DBInstanceIdentifier=p["identifier"], SourceDBInstanceIdentifier=p["replicateSourceDb"],
                DBInstanceClass=p["instanceClass"], PubliclyAccessible=p["publiclyAccessible"],
            )  # fmt: skip
            return str(p["identifier"])
        self.rds.create_db_instance(
            DBInstanceIdentifier=p["identifier"], Engine=p["engine"], EngineVersion=p["engineVersion"],
            MasterUsername=p["username"], ManageMasterUserPassword=p["manageMasterUserPassword"],
            DBSubnetGroupName=p["dbSubnetGroupName"], VpcSecurityGroupIds=p["vpcSecurityGroupIds"],
            StorageEncrypted=p["storageEncrypted"], KmsKeyId=p["kmsKeyId"], StorageType=p["storageType"],
            DBParameterGroupName=p["parameterGroupName"], Tags=self.tag_list(p), **asked,
        )  # fmt: skip
        return str(p["identifier"])

    def read(self, id_: str, p: Props) -> Props | None:
        (found,) = self.rds.describe_db_instances(DBInstanceIdentifier=id_)["DBInstances"]
        said = {key: found[name] for key, name in _DIRECT.items() if key in p and name in found}
        secret = (found.get("MasterUserSecret") or {}).get("SecretArn")
        return said | {
            "address": found["Endpoint"]["Address"],
            "port": found["Endpoint"]["Port"],
            "arn": found["DBInstanceArn"],
            "masterUserSecrets": [{"secretArn": secret}] if secret else [],
        }

    def update(self, id_: str, p: Props, old: Props) -> None:
        asked = {to: p[key] for key, to in _DIRECT.items() if key in p and p[key] != old.get(key)}
        self.rds.modify_db_instance(DBInstanceIdentifier=id_, ApplyImmediately=True, **asked)

    def delete(self, id_: str, p: Props) -> None:
        final = p.get("finalSnapshotIdentifier")
        more = {"FinalDBSnapshotIdentifier": final} if final else {}
        self.rds.delete_db_instance(
            DBInstanceIdentifier=id_, SkipFinalSnapshot=p.get("skipFinalSnapshot", False), **more
        )


@kind("aws:kms/key:Key")
class Key(Kind):
    def create(self, p: Props) -> str:
        made = self.client("kms").create_key(Description=p["description"], Policy=p["policy"])
        id_: str = made["KeyMetadata"]["KeyId"]
        self.client("kms").enable_key_rotation(KeyId=id_)
        return id_

    def read(self, id_: str, p: Props) -> Props | None:
        kms = self.client("kms")
        found = kms.describe_key(KeyId=id_)["KeyMetadata"]
        if found["KeyState"] == "PendingDeletion":
            return None
        renewed = kms.get_key_rotation_status(KeyId=id_)["KeyRotationEnabled"]
        return {"arn": found["Arn"], "keyId": id_, "enableKeyRotation": renewed}

    def update(self, id_: str, p: Props, old: Props) -> None:
        kms = self.client("kms")
        kms.put_key_policy(KeyId=id_, PolicyName="default", Policy=p["policy"])
        (kms.enable_key_rotation if p["enableKeyRotation"] else kms.disable_key_rotation)(KeyId=id_)

    def delete(self, id_: str, p: Props) -> None:
        self.client("kms").schedule_key_deletion(KeyId=id_, PendingWindowInDays=p["deletionWindowInDays"])


@kind("aws:secretsmanager/secret:Secret", named="name")
class Secret(Kind):
    def create(self, p: Props) -> str:
        made = self.client("secretsmanager").create_secret(
            Name=p["name"], Description=p["description"], Tags=self.tag_list(p)
        )
        return str(made["ARN"])

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.client("secretsmanager").describe_secret(SecretId=id_)
        return None if found.get("DeletedDate") else {"arn": found["ARN"]}

    def update(self, id_: str, p: Props, old: Props) -> None:
        self.client("secretsmanager").update_secret(SecretId=id_, Description=p["description"])

    def delete(self, id_: str, p: Props) -> None:
        days = p.get("recoveryWindowInDays", 30)
        more = {"RecoveryWindowInDays": days} if days else {"ForceDeleteWithoutRecovery": True}
        self.client("secretsmanager").delete_secret(SecretId=id_, **more)


@kind("aws:cloudwatch/logGroup:LogGroup", named="name")
class LogGroup(Kind):
    def create(self, p: Props) -> str:
        logs = self.client("logs")
        logs.create_log_group(logGroupName=p["name"], kmsKeyId=p["kmsKeyId"], tags=self.tags(p))
        self.update(p["name"], p, {})
        return str(p["name"])

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.client("logs").describe_log_groups(logGroupNamePrefix=id_)["logGroups"]
        mine = [one for one in found if one["logGroupName"] == id_]
        return (
            {"retentionInDays": mine[0].get("retentionInDays", 0), "arn": mine[0]["arn"].removesuffix(":*")}
            if mine
            else None
        )

    def update(self, id_: str, p: Props, old: Props) -> None:
        self.client("logs").put_retention_policy(logGroupName=id_, retentionInDays=p["retentionInDays"])

    def delete(self, id_: str, p: Props) -> None:
        self.client("logs").delete_log_group(logGroupName=id_)


@kind("aws:cloudtrail/trail:Trail", named="name")
class Trail(Kind):
    def create(self, p: Props) -> str:
        made = self.client("cloudtrail").create_trail(
            Name=p["name"],
            S3BucketName=p["s3BucketName"],
            EnableLogFileValidation=p["enableLogFileValidation"],
        )
        self.update(made["TrailARN"], p, {})
        return str(made["TrailARN"])

    def read(self, id_: str, p: Props) -> Props | None:
        return {"arn": self.client("cloudtrail").get_trail(Name=id_)["Trail"]["TrailARN"]}

    def update(self, id_: str, p: Props, old: Props) -> None:
        selectors = json.loads(json.dumps(p["advancedEventSelectors"]).replace("startsWiths", "startsWith"))
        self.client("cloudtrail").put_event_selectors(TrailName=id_, AdvancedEventSelectors=pascal(selectors))

    def delete(self, id_: str, p: Props) -> None:
        self.client("cloudtrail").delete_trail(Name=id_)
