"""What an environment with the target ``aws`` consists of.

The stacks in ``stacks/`` have settings of their own, so that they work without djops; these are the same,
as ``djops.yaml`` writes them. :mod:`djops.compile.cloud` turns these into those.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from djops.model.frozen import Frozen

SIZES = ("small", "medium", "large")
"""The sizes that ``stacks/cloud/sizes.py`` explains."""

Prefixes = tuple[Annotated[str, StringConstraints(pattern=r"^[^/].*/$")], ...]
BucketName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
WorkerName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]


def manager_account(project: str) -> str:
    """Name the MySQL account djops works as on servers that Pulumi made; a server may have several projects.

    Args:
        project: Name of the project.
    """
    return f"djops-{project}"[:32]


class CloudState(Frozen):
    """Where Pulumi keeps what it knows about the servers, and what encrypts secrets in there.

    Attributes:
        backend: ``file`` (beside djops' own data, for trying), ``s3://BUCKET/PREFIX``, or ``cloud`` for
            Pulumi Cloud.
        secrets: ``passphrase`` (kept with djops' own data, mode 0600) or ``awskms://alias/NAME``.
        organization: Pulumi Cloud: the organisation that owns the stack.
    """

    backend: str = Field(
        default="file", pattern=r"^(file|cloud|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w./-]+)?)$"
    )
    secrets: str = Field(default="passphrase", pattern=r"^(passphrase|awskms://[\w/:.-]+)$")
    organization: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,40}$")


class CloudNetwork(Frozen):
    """A VPC that is used instead of making one; it must reach S3.

    Attributes:
        vpc_id: The VPC.
        subnet_ids: At least two private subnets in different zones.
    """

    vpc_id: str = Field(pattern=r"^vpc-[0-9a-f]+$")
    subnet_ids: tuple[Annotated[str, StringConstraints(pattern=r"^subnet-[0-9a-f]+$")], ...] = Field(
        min_length=2
    )


class CloudDatabase(Frozen):
    """A MySQL server that is used instead of making one.

    Attributes:
        host: Where it listens.
        port: TCP port.
        admin_secret: ARN of the secret in Secrets Manager with ``username`` and ``password`` of its
            administrator.
        ca: PEM file of the authority that signed its certificate; what the system trusts unless given.
    """

    host: str
    port: int = Field(default=3306, ge=1, le=65535)
    admin_secret: str = Field(pattern=r"^arn:aws[a-z-]*:secretsmanager:\S+$")
    ca: str | None = None


class CloudExisting(Frozen):
    """What is there already and is used instead of being made; for a bucket see ``buckets``.

    Attributes:
        network: A VPC.
        database: A MySQL server.
    """

    network: CloudNetwork | None = None
    database: CloudDatabase | None = None


class CloudBucket(Frozen):
    """How the bucket of a store is kept.

    Attributes:
        existing: It is there already; only the access layer's rights are made for it.
        noncurrent_days: How long overwritten and deleted objects can be had back.
        tiering: Let S3 move what is seldom read to cheaper storage.
        lock_days: Nobody deletes an object younger than this; only when the bucket is made, 0 for none.
    """

    existing: bool = False
    noncurrent_days: int = Field(default=90, ge=1)
    tiering: bool = False
    lock_days: int = Field(default=0, ge=0)


class OpenBaoPackage(Frozen):
    """The OpenBao that is installed in the cloud.

    Attributes:
        url: An rpm package for arm64.
        sha256: Its checksum.
    """

    url: str = Field(pattern=r"^https://\S+\.rpm$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class WorkerImage(Frozen):
    """The container image that workers run.

    Attributes:
        reference: With its digest, ``registry/name@sha256:...``.
        commit: The pipeline's git commit that it was built from.
        repository_arn: Its ECR repository; nothing for one that needs no log-in.
    """

    reference: str = Field(pattern=r"^[^\s@]+@sha256:[0-9a-f]{64}$")
    commit: str = Field(pattern=r"^[0-9a-f]{40}$")
    repository_arn: str | None = None


class Workers(Frozen):
    """Workers of one class.

    Attributes:
        command: What a worker runs.
        cpu: CPU units, 1024 for one core.
        memory_mib: Memory.
        gpus: Above 0 they run on machines with GPUs, made and removed with the queue.
        gpu_instance_type: Of such machines.
        maximum: Most workers at once.
        spot: On spare capacity, cheaper and at times taken back.
        read: Key prefixes that may be read, with their closing slash, by bucket.
        write: Key prefixes that may be written, likewise.
    """

    command: tuple[str, ...] = Field(min_length=1)
    cpu: int = Field(default=1024, ge=256)
    memory_mib: int = Field(default=4096, ge=512)
    gpus: int = Field(default=0, ge=0)
    gpu_instance_type: str = "g4dn.xlarge"
    maximum: int = Field(default=4, ge=1)
    spot: bool = True
    read: dict[BucketName, Prefixes] = Field(default_factory=dict)
    write: dict[BucketName, Prefixes] = Field(default_factory=dict)


class Budget(Frozen):
    """An alarm for what a month costs.

    Attributes:
        usd: US dollars a month.
        emails: Who is told.
    """

    usd: int = Field(ge=1)
    emails: tuple[str, ...] = Field(min_length=1)


class CloudEnvironment(Frozen):
    """The keys of an environment that only the target ``aws`` takes.

    Attributes:
        region: AWS region.
        size: ``small``, ``medium`` or ``large``; `djops cost` tells what each costs.
        account: The AWS account that is meant; djops refuses to work in another.
        profile: The profile of the AWS configuration whose credentials are used.
        state: Where Pulumi keeps its state.
        buckets: How the stores' buckets are kept, by name; as usual where nothing is said.
        openbao: Which OpenBao to install, unless ``secrets`` says where one is.
        image: What workers run; without it there are none.
        workers: Their classes.
        worker_environment: Their environment variables, none secret.
        meter_command: Counts waiting jobs; see docs/cloud.md.
        audit: Record log-ins, statements and requests for objects.
        budget: An alarm for what a month costs.
        cidr: Address range of the VPC.
        existing: What is there already and is used instead of being made.
    """

    region: str | None = Field(default=None, pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$")
    size: Literal["small", "medium", "large"] = "small"
    account: str | None = Field(default=None, pattern=r"^[0-9]{12}$")
    profile: str | None = None
    state: CloudState = Field(default_factory=CloudState)
    buckets: dict[BucketName, CloudBucket] = Field(default_factory=dict)
    openbao: OpenBaoPackage | None = None
    image: WorkerImage | None = None
    workers: dict[WorkerName, Workers] = Field(default_factory=dict)
    worker_environment: dict[str, str] = Field(default_factory=dict)
    meter_command: tuple[str, ...] = ()
    audit: bool = False
    budget: Budget | None = None
    cidr: str = Field(default="10.40.0.0/16", pattern=r"^[0-9.]{7,15}/(1[6-9]|20)$")
    existing: CloudExisting = Field(default_factory=CloudExisting)

    @model_validator(mode="after")
    def _workers_have_an_image(self) -> Self:
        if self.workers and self.image is None:
            raise ValueError("`workers` need an `image` with its digest and commit")
        return self
