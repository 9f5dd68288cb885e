"""IAM, and the budget."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

from tests.support.aws_double.kinds import Kind, Props, kind


class _Iam(Kind):
    @property
    def iam(self) -> Any:
        return self.client("iam")


@kind("aws:iam/role:Role", named="name")
class Role(_Iam):
    def create(self, p: Props) -> str:
        self.iam.create_role(
            RoleName=p["name"], AssumeRolePolicyDocument=p["assumeRolePolicy"], Tags=self.tag_list(p)
        )
        return str(p["name"])

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.iam.get_role(RoleName=id_)["Role"]
        return {"arn": found["Arn"], "assumeRolePolicy": _text(found["AssumeRolePolicyDocument"])}

    def update(self, id_: str, p: Props, old: Props) -> None:
        self.iam.update_assume_role_policy(RoleName=id_, PolicyDocument=p["assumeRolePolicy"])

    def delete(self, id_: str, p: Props) -> None:
        self.iam.delete_role(RoleName=id_)


class _Inline(_Iam):
    """An inline policy of a role, a user or a group."""

    holder: str

    def _names(self, id_: str) -> dict[str, str]:
        holder, _, policy = id_.partition(":")
        return {f"{self.holder.capitalize()}Name": holder, "PolicyName": policy}

    def create(self, p: Props) -> str:
        id_ = f"{p[self.holder]}:{p['name']}"
        self.update(id_, p, {})
        return id_

    def update(self, id_: str, p: Props, old: Props) -> None:
        getattr(self.iam, f"put_{self.holder}_policy")(PolicyDocument=p["policy"], **self._names(id_))

    def read(self, id_: str, p: Props) -> Props | None:
        found = getattr(self.iam, f"get_{self.holder}_policy")(**self._names(id_))
        return {"policy": _text(found["PolicyDocument"])}

    def delete(self, id_: str, p: Props) -> None:
        getattr(self.iam, f"delete_{self.holder}_policy")(**self._names(id_))


@kind("aws:iam/rolePolicy:RolePolicy", named="name", replace="role")
class RolePolicy(_Inline):
    holder = "role"


@kind("aws:iam/userPolicy:UserPolicy", named="name", replace="user")
class UserPolicy(_Inline):
    holder = "user"


@kind("aws:iam/groupPolicy:GroupPolicy", named="name", replace="group")
class GroupPolicy(_Inline):
    holder = "group"


@kind("aws:iam/rolePolicyAttachment:RolePolicyAttachment", replace="role policyArn")
class RolePolicyAttachment(_Iam):
    """AWS's own policies are not in moto: one of the same name is made for each."""

    def create(self, p: Props) -> str:
        self.iam.attach_role_policy(RoleName=p["role"], PolicyArn=self._stand_in(p["policyArn"]))
        return f"{p['role']}/{p['policyArn']}"

    def _stand_in(self, arn: str) -> str:
        account = self.client("sts").get_caller_identity()["Account"]
        mine = f"arn:aws:iam::{account}:policy/{arn.rpartition('/')[2]}"
        known = {one["Arn"] for one in self.iam.list_policies(Scope="Local")["Policies"]}
        if mine not in known:
            nothing = {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": "ssm:*", "Resource": "*"}],
            }
            self.iam.create_policy(PolicyName=mine.rpartition("/")[2], PolicyDocument=json.dumps(nothing))
        return mine

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.iam.list_attached_role_policies(RoleName=p["role"])["AttachedPolicies"]
        return {} if any(one["PolicyArn"] == self._stand_in(p["policyArn"]) for one in found) else None

    def delete(self, id_: str, p: Props) -> None:
        self.iam.detach_role_policy(RoleName=p["role"], PolicyArn=self._stand_in(p["policyArn"]))


@kind("aws:iam/instanceProfile:InstanceProfile", named="name")
class InstanceProfile(_Iam):
    def create(self, p: Props) -> str:
        self.iam.create_instance_profile(InstanceProfileName=p["name"])
        self.iam.add_role_to_instance_profile(InstanceProfileName=p["name"], RoleName=p["role"])
        return str(p["name"])

    def read(self, id_: str, p: Props) -> Props | None:
        return {"arn": self.iam.get_instance_profile(InstanceProfileName=id_)["InstanceProfile"]["Arn"]}

    def delete(self, id_: str, p: Props) -> None:
        self.iam.remove_role_from_instance_profile(InstanceProfileName=id_, RoleName=p["role"])
        self.iam.delete_instance_profile(InstanceProfileName=id_)


@kind("aws:iam/user:User", named="name")
class User(_Iam):
    def create(self, p: Props) -> str:
        bound = {"PermissionsBoundary": p["permissionsBoundary"]} if p.get("permissionsBoundary") else {}
        self.iam.create_user(UserName=p["name"], Path=p["path"], Tags=self.tag_list(p), **bound)
        return str(p["name"])

    def read(self, id_: str, p: Props) -> Props | None:
        return {"arn": self.iam.get_user(UserName=id_)["User"]["Arn"]}

    def delete(self, id_: str, p: Props) -> None:
        self.iam.delete_user(UserName=id_)


@kind("aws:iam/policy:Policy", named="name", replace="path")
class Policy(_Iam):
    def create(self, p: Props) -> str:
        made = self.iam.create_policy(PolicyName=p["name"], Path=p["path"], PolicyDocument=p["policy"])
        return str(made["Policy"]["Arn"])

    def read(self, id_: str, p: Props) -> Props | None:
        version = self.iam.get_policy(PolicyArn=id_)["Policy"]["DefaultVersionId"]
        found = self.iam.get_policy_version(PolicyArn=id_, VersionId=version)["PolicyVersion"]["Document"]
        return {"arn": id_, "policy": json.dumps(found)}

    def update(self, id_: str, p: Props, old: Props) -> None:
        self.iam.create_policy_version(PolicyArn=id_, PolicyDocument=p["policy"], SetAsDefault=True)

    def delete(self, id_: str, p: Props) -> None:
        self.iam.delete_policy(PolicyArn=id_)


@kind("aws:iam/userPolicyAttachment:UserPolicyAttachment", replace="user policyArn")
class UserPolicyAttachment(_Iam):
    def create(self, p: Props) -> str:
        self.iam.attach_user_policy(UserName=p["user"], PolicyArn=p["policyArn"])
        return f"{p['user']}/{p['policyArn']}"

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.iam.list_attached_user_policies(UserName=p["user"])["AttachedPolicies"]
        return {} if any(one["PolicyArn"] == p["policyArn"] for one in found) else None

    def delete(self, id_: str, p: Props) -> None:
        self.iam.detach_user_policy(UserName=p["user"], PolicyArn=p["policyArn"])


@kind("aws:iam/group:Group", named="name")
class Group(_Iam):
    def create(self, p: Props) -> str:
        self.iam.create_group(GroupName=p["name"], Path=p["path"])
        return str(p["name"])

    def read(self, id_: str, p: Props) -> Props | None:
        return {"arn": self.iam.get_group(GroupName=id_)["Group"]["Arn"]}

    def delete(self, id_: str, p: Props) -> None:
        self.iam.delete_group(GroupName=id_)


@kind("aws:budgets/budget:Budget", named="name")
class Budget(Kind):
    def _account(self) -> str:
        return str(self.client("sts").get_caller_identity()["Account"])

    def create(self, p: Props) -> str:
        self.client("budgets").create_budget(
            AccountId=self._account(),
            Budget={
                "BudgetName": p["name"], "BudgetType": p["budgetType"], "TimeUnit": p["timeUnit"],
                "BudgetLimit": {"Amount": p["limitAmount"], "Unit": p["limitUnit"]},
            },
        )  # fmt: skip
        return str(p["name"])

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.client("budgets").describe_budget(AccountId=self._account(), BudgetName=id_)["Budget"]
        return {"limitAmount": str(found["BudgetLimit"]["Amount"])}

    def delete(self, id_: str, p: Props) -> None:
        self.client("budgets").delete_budget(AccountId=self._account(), BudgetName=id_)


def _text(document: Any) -> str:
    return unquote(document) if isinstance(document, str) else json.dumps(document)
