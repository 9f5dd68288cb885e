"""Services' log-ins at the secrets server, and their database credentials from its database engine.

The engine's own account in MySQL holds nothing but three stored procedures of djops' schema. They run as the
account djops works as, and see to it that the engine touches accounts of its project's services alone: with
CREATE USER, which the engine is usually given, it could set the password of every account without
SYSTEM_USER (MySQL 9.7, measured), people's and djops' own among them.

A leased account holds one thing: its service, as a role. So what the service is given or loses counts for
every lease at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

from djops.compile.mysql_manager import END_SESSION, EVENT_SCHEMA
from djops.compile.mysql_state import AccountId
from djops.compile.sql import MAX_ACCOUNT, quote_account, quote_identifier, quote_string
from djops.compile.vault import DATABASE, creds_path, policy_name
from djops.model.project import Project, Service

_ENGINE = "djops-engine-"
"""What the names of database engines' accounts in MySQL begin with."""

_NAME, _DIGEST = 12, 6
"""Characters of a long project's name, and of the SHA-256 of it, in the name of its engine's account."""

LEASES = "leases"
"""In djops' schema: the accounts that were leased, and until when at most. Only the procedures write it."""

PROCEDURES = ("lease_account", "end_lease", "renew_password")
"""What the engine may call."""

SWEEP = "end_overdue_leases"
"""The procedure, and the event that calls it: ends what the secrets server did not end in time."""

_LEASE_COLUMNS = ", ".join(
    (
        "`user` CHAR(32) NOT NULL PRIMARY KEY",
        "`host` CHAR(255) CHARACTER SET ascii NOT NULL",
        "`project` VARCHAR(64) NOT NULL",
        "`service` VARCHAR(32) NOT NULL",
        "`made` DATETIME NOT NULL",
        "`ends` DATETIME NOT NULL",
    )
)

LOOPBACK = ("127.0.0.1/32", "::1/128")


def compile_logins(project: Project, environment: str) -> dict[str, Mapping[str, Any]]:
    """Compile the AppRole of each service.

    Args:
        project: The project.
        environment: Name of the environment; in a local lab services log in from this machine only.

    Returns:
        Settings by API path.
    """
    local = project.environments[environment].target == "local"
    found: dict[str, Mapping[str, Any]] = {}
    for name, service in project.services.items():
        login, policy = service.approle, policy_name(project.project, name)
        cidrs = list((LOOPBACK if local else ()) if login.bound_cidrs is None else login.bound_cidrs)
        found[f"auth/approle/role/{policy}"] = {
            "bind_secret_id": True,
            "token_policies": [policy],
            "token_no_default_policy": True,
            "token_ttl": login.token_ttl,
            "token_max_ttl": login.token_max_ttl,
            "token_period": 0,
            "token_num_uses": 0,
            "token_bound_cidrs": cidrs,
            "secret_id_bound_cidrs": cidrs,
            "secret_id_ttl": login.secret_id_ttl,
            "secret_id_num_uses": login.secret_id_num_uses,
        }
    return found


def compile_leases(project: Project) -> dict[str, Mapping[str, Any]]:
    """Compile the engine's role of each service whose credentials it makes.

    Args:
        project: The project.

    Returns:
        Settings by API path.
    """
    return {
        f"{DATABASE}/{_KINDS[service.credentials.type]}/{policy_name(project.project, name)}": _engine_role(
            project.project, name, service
        )
        for name, service in project.services.items()
        if service.credentials.type != "kept"
    }


_KINDS = {"dynamic": "roles", "static": "static-roles"}


def _engine_role(project: str, name: str, service: Service) -> Mapping[str, Any]:
    given, owner = service.credentials, f"{quote_string(project)}, {quote_string(name)}"
    if given.type == "static":
        renew = f"CALL {_own('renew_password')}('{{{{password}}}}', {owner})"
        return {
            "db_name": engine_config(project),
            "username": name,
            "rotation_period": given.rotation_period,
            "rotation_statements": [renew],
        }
    end = f"CALL {_own('end_lease')}('{{{{name}}}}')"
    lease = f"CALL {_own('lease_account')}('{{{{name}}}}', '{{{{password}}}}', {owner}, {given.max_ttl})"
    return {
        "db_name": engine_config(project),
        "default_ttl": given.default_ttl,
        "max_ttl": given.max_ttl,
        "creation_statements": [lease],
        "revocation_statements": [end],
        "rollback_statements": [end],
        "renew_statements": [],
    }


def engine_config(project: str) -> str:
    """Return the name under which the engine knows the project's database."""
    return f"djops-{project}".lower()


def engine_account(project: str) -> AccountId:
    """Return the engine's account in MySQL, one for each project.

    Args:
        project: Name of the project.
    """
    if len(_ENGINE + project) > MAX_ACCOUNT:
        project = f"{project[:_NAME]}~{hashlib.sha256(project.encode()).hexdigest()[:_DIGEST]}"
    return AccountId(_ENGINE + project)


def engine_connection(project: str, host: str, port: int, ca: str) -> Mapping[str, Any]:
    """Return how the engine reaches MySQL, but for its password.

    Args:
        project: Name of the project.
        host: Where MySQL is, as the secrets server sees it.
        port: Its port.
        ca: The authority that signed its certificate, in PEM; empty for one that the machine trusts anyway.
    """
    prefix = f"{engine_config(project)}-"
    name = f'.RoleName | replace "{prefix}" "" | truncate 13'
    return {
        "plugin_name": "mysql-database-plugin",
        "allowed_roles": [f"{prefix}*"],
        "connection_url": f"{{{{username}}}}:{{{{password}}}}@tcp({host}:{port})/"
        + ("" if ca else "?tls=true"),
        "username": engine_account(project).user,
        "username_template": f'{{{{printf "v-%s-%s" ({name}) (random 16)}}}}',
        **({"tls_ca": ca} if ca else {}),
    }


def credentials_path(project: Project, service: str) -> str | None:
    """Return where a service reads its database credentials; ``None`` when djops keeps them.

    Args:
        project: The project.
        service: Its name.
    """
    kind = project.services[service].credentials.type
    return creds_path(project.project, service, kind) if kind != "kept" else None


def _own(name: str) -> str:
    return f"{quote_identifier(EVENT_SCHEMA)}.{quote_identifier(name)}"


def procedures(manager: str) -> dict[str, str]:
    """Write the stored procedures.

    Args:
        manager: The account djops works as, quoted: they run with its rights.

    Returns:
        Statements by the procedure's name.
    """
    return {
        name: f"CREATE DEFINER = {manager} PROCEDURE {_own(name)}({arguments})\n{body}"
        for name, (arguments, body) in {**_BODIES, SWEEP: _SWEEP}.items()
    }


def body_of(name: str) -> str:
    """Return what the server should show as a procedure's body."""
    return {**_BODIES, SWEEP: _SWEEP}[name][1]


def grant_engine(project: str, manager: str, right: Collection[str] = ()) -> tuple[str, ...]:
    """Write what makes the engine's account, its table and its procedures.

    Args:
        project: Name of the project.
        manager: The account djops works as, quoted.
        right: Procedures that are there as they should be; others of those names are made anew.

    Returns:
        Statements for a database administrator, who has made djops' schema before; each may be run again.
    """
    engine = quote_account(*engine_account(project))
    made = {name: text for name, text in procedures(manager).items() if name not in right}
    return (
        f"CREATE TABLE IF NOT EXISTS {_own(LEASES)} ({_LEASE_COLUMNS}) "
        "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        f"GRANT SELECT, INSERT, DELETE ON {_own(LEASES)} TO {manager}",
        *(one for name, text in made.items() for one in (f"DROP PROCEDURE IF EXISTS {_own(name)}", text)),
        f"GRANT EXECUTE ON PROCEDURE {_own(SWEEP)} TO {manager}",
        f"CREATE DEFINER = {manager} EVENT IF NOT EXISTS {_own(SWEEP)} ON SCHEDULE EVERY 1 MINUTE "
        f"DO CALL {_own(SWEEP)}()",
        f"CREATE USER IF NOT EXISTS {engine} IDENTIFIED BY RANDOM PASSWORD REQUIRE SSL",
        # Last, as these are what tells that everything before is there.
        *(f"GRANT EXECUTE ON PROCEDURE {_own(name)} TO {engine}, {manager}" for name in PROCEDURES),
    )


_RUN = (
    "PREPARE djops_statement FROM @djops_statement; EXECUTE djops_statement; "
    "DEALLOCATE PREPARE djops_statement;"
)
_FORGET = "SET @djops_statement = NULL"
# What a failed statement held is taken out of the session as well: it may be a password.
_FORGETTING = f"DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN {_FORGET}; RESIGNAL; END;"
_SERVICE = (
    "SELECT MAX(Host), MAX(max_user_connections) INTO v_host, v_limit FROM mysql.user WHERE User = p_service "
    "AND User_attributes->>'$.metadata.djops.project' = p_project "
    "AND User_attributes->>'$.metadata.djops.kind' = 'service' "
    "AND User_attributes->>'$.metadata.djops.engine' = {engine};"
)
_ACCOUNT = "QUOTE({name}), '@', QUOTE({host})"


def _refuse(when: str, message: str) -> str:
    # Without a quote: servers show texts with one in another way than they were written.
    return f"IF {when} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = {quote_string(message)}; END IF;"


_WHERE, _WHAT = END_SESSION.split(".")
# On RDS nobody may end others' sessions but by a procedure, which djops' account then sees.
_BY_PROCEDURE = (
    f"EXISTS (SELECT 1 FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = '{_WHERE}' "
    f"AND ROUTINE_NAME = '{_WHAT}')"
)


def _end(name: str) -> str:
    """Write what drops an account, and then ends its sessions: nobody can log in any more meanwhile."""
    return f"""\
  SET @djops_statement = CONCAT('DROP USER IF EXISTS ', {_ACCOUNT.format(name=name, host="v_host")});
  {_RUN}
  BEGIN
    DECLARE v_session BIGINT UNSIGNED;
    DECLARE v_last BOOL DEFAULT FALSE;
    DECLARE v_by_procedure BOOL DEFAULT {_BY_PROCEDURE};
    DECLARE v_sessions CURSOR FOR SELECT id FROM information_schema.processlist WHERE user = {name};
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_last = TRUE;
    DECLARE CONTINUE HANDLER FOR 1094 BEGIN END;
    OPEN v_sessions;
    every_session: LOOP
      FETCH v_sessions INTO v_session;
      IF v_last THEN LEAVE every_session; END IF;
      IF v_by_procedure THEN CALL {END_SESSION}(v_session); ELSE KILL v_session; END IF;
    END LOOP;
    CLOSE v_sessions;
  END;
  DELETE FROM {_own(LEASES)} WHERE `user` = {name};
"""


_CALLER, _MANAGER = "SUBSTRING_INDEX(USER(), '@', 1)", "SUBSTRING_INDEX(CURRENT_USER(), '@', 1)"


def _engine_of(project: str) -> str:
    """Write :func:`engine_account` as an expression."""
    begin, short = quote_string(_ENGINE), MAX_ACCOUNT - len(_ENGINE)
    cut = f"CONCAT({begin}, LEFT({project}, {_NAME}), '~', LEFT(SHA2({project}, 256), {_DIGEST}))"
    return f"IF(CHAR_LENGTH({project}) <= {short}, CONCAT({begin}, {project}), {cut})"


_OWN_ENGINE = _refuse(f"{_CALLER} <> {_engine_of('p_project')}", "it is of another project")


def _for_service(way: str, unknown: str, first: str, *statement: str) -> str:
    """Write a body that runs a statement with a password in it, about a service of the caller's project.

    Args:
        way: How the service gets its credentials.
        unknown: What is said when there is no such service.
        first: What is done before.
        statement: Expressions that make the statement, ``v_host`` and ``v_limit`` being the service's.
    """
    return f"""\
BEGIN
  DECLARE v_host CHAR(255);
  DECLARE v_limit INT UNSIGNED;
  {_FORGETTING}
  {_OWN_ENGINE}
  {_SERVICE.format(engine=quote_string(way))}
  {_refuse("v_host IS NULL", unknown)}
{first}  SET @djops_statement = CONCAT({", ".join(statement)});
  {_RUN}
  {_FORGET};
END"""


_BODIES: Mapping[str, tuple[str, str]] = {
    "lease_account": (
        "IN p_name CHAR(32), IN p_password VARCHAR(128), IN p_project VARCHAR(64), IN p_service VARCHAR(32), "
        "IN p_seconds INT UNSIGNED",
        _for_service(
            "dynamic",
            "no service whose accounts are leased",
            f"""\
  {_refuse("p_name NOT LIKE 'v-%'", "not the name of a leased account")}
  INSERT INTO {_own(LEASES)} VALUES (p_name, v_host, p_project, p_service, UTC_TIMESTAMP(),
    UTC_TIMESTAMP() + INTERVAL p_seconds SECOND);
""",
            f"'CREATE USER ', {_ACCOUNT.format(name='p_name', host='v_host')}",
            "' IDENTIFIED WITH caching_sha2_password BY ', QUOTE(p_password)",
            f"' DEFAULT ROLE ', {_ACCOUNT.format(name='p_service', host='v_host')}",
            "' REQUIRE SSL WITH MAX_USER_CONNECTIONS ', v_limit",
            "' ATTRIBUTE ', QUOTE(JSON_OBJECT('djops', JSON_OBJECT('project', p_project, 'kind', 'lease', "
            "'service', p_service)))",
        ),
    ),
    "end_lease": (
        "IN p_name CHAR(32)",
        f"""\
BEGIN
  DECLARE v_host CHAR(255);
  DECLARE v_project VARCHAR(64);
  SELECT MAX(host), MAX(project) INTO v_host, v_project FROM {_own(LEASES)} WHERE `user` = p_name;
  IF v_host IS NOT NULL THEN
    {_refuse(f"{_CALLER} NOT IN ({_engine_of('v_project')}, {_MANAGER})", "it is of another project")}
{_end("p_name")}  END IF;
END""",
    ),
    "renew_password": (
        "IN p_password VARCHAR(128), IN p_project VARCHAR(64), IN p_service VARCHAR(32)",
        _for_service(
            "static",
            "no service whose password is renewed on a schedule",
            "",
            f"'ALTER USER ', {_ACCOUNT.format(name='p_service', host='v_host')}",
            "' IDENTIFIED BY ', QUOTE(p_password), ' RETAIN CURRENT PASSWORD'",
        ),
    ),
}

_SWEEP = (
    "",
    f"""\
BEGIN
  DECLARE v_name CHAR(32);
  DECLARE v_over BOOL DEFAULT FALSE;
  DECLARE v_overdue CURSOR FOR SELECT `user` FROM {_own(LEASES)} WHERE ends < UTC_TIMESTAMP();
  DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_over = TRUE;
  OPEN v_overdue;
  every_lease: LOOP
    FETCH v_overdue INTO v_name;
    IF v_over THEN LEAVE every_lease; END IF;
    CALL {_own("end_lease")}(v_name);
  END LOOP;
  CLOSE v_overdue;
END""",
)
