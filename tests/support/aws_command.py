"""Stands in for the AWS command line, which is too large to fetch for a few commands of one page.

It knows ``aws SERVICE OPERATION --option value``, shorthand (``A=b,C=d``), ``file://``, and prints what
``--query`` picks. What an option is called comes from the service's own description.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import boto3
import jmespath  # type: ignore[import-untyped]
from botocore import xform_name
from botocore.config import Config

GLOBAL = ("query", "output")


def main(service: str, operation: str, *options: str) -> None:
    client = boto3.client(service.removesuffix("api"), config=Config(s3={"addressing_style": "path"}))  # type: ignore[call-overload]
    action = next(name for name in client.meta.service_model.operation_names if kebab(name) == operation)
    members = client.meta.service_model.operation_model(action).input_shape.members
    names = {kebab(name): name for name in members}
    given = {name.removeprefix("--"): value for name, value in zip(options[::2], options[1::2], strict=True)}
    parameters = {
        names[name]: parse(value, members[names[name]]) for name, value in given.items() if name not in GLOBAL
    }
    answer = getattr(client, xform_name(action))(**parameters)
    if "query" in given:
        answer = jmespath.search(given["query"], answer)
    text = given.get("output") == "text"
    print("\t".join(answer) if text else json.dumps(answer, indent=4, default=str))


def kebab(name: str) -> str:
    return xform_name(name).replace("_", "-")


def parse(value: str, shape: Any) -> Any:
    if value.startswith("file://"):
        return Path(value.removeprefix("file://")).read_text()
    if shape.type_name != "structure":
        return value
    pairs = dict(pair.split("=") for pair in value.split(","))
    return {
        key: text == "true" if shape.members[key].type_name == "boolean" else text
        for key, text in pairs.items()
    }


main(*sys.argv[1:])
