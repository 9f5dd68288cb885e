"""djops: provision and administer DataJoint pipelines."""

__version__ = "0.1.0"
