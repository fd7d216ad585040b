"""Drives an emr-containers endpoint with boto3 and prints what it answered, normalised.

Usage: python3 emr_containers.py URL

The transcript is a JSON object: step -> what the caller saw. Ids, times and request ids are
replaced by names, lists are sorted, so two servers that behave alike give equal transcripts.
A server that has the simulator's control endpoint is told when time passes; another one is
assumed to need no time.
"""

import datetime
import json
import re
import sys
import urllib.error
import urllib.request

import boto3
import botocore.client
import botocore.exceptions

HOUR = 3600
ROLE = "arn:aws:iam::123456789012:role/job"
DRIVER = {"sparkSubmitJobDriver": {"entryPoint": "local:///pi.py", "entryPointArguments": ["7"]}}
OVERRIDES = {
    "applicationConfiguration": [
        {"classification": "spark-defaults", "properties": {"spark.executor.memory": "2G"}}
    ],
    "monitoringConfiguration": {"s3MonitoringConfiguration": {"logUri": "s3://logs/"}},
}


# Ids of runs and virtual clusters that got no name.
AN_ID = re.compile(r"\b([0-9a-z]{19}|[0-9a-z]{25})\b")


def by_name(item):
    """The order of list items: what they hold may differ, their names don't."""
    return (item.get("name", "") if isinstance(item, dict) else "", json.dumps(item, sort_keys=True))


def client(service, url):
    """A client that neither checks parameters itself nor retries: the server is what is looked at."""
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="eu-west-1",
        aws_access_key_id="AKIAEXAMPLE",
        aws_secret_access_key="secret",
        config=botocore.client.Config(
            parameter_validation=False, retries={"total_max_attempts": 1}, proxies={}
        ),
    )


class Transcript:
    """Calls operations by steps, and writes down what came back."""

    def __init__(self, url):
        self.url = url
        self.emr = client("emr-containers", url)
        self.steps = {}
        self.names = {}

    def call(self, step, operation, **arguments):
        """Calls an operation; gives its reply, or nothing when it was refused."""
        try:
            reply = getattr(self.emr, operation)(**arguments)
        except botocore.exceptions.ClientError as error:
            seen = {
                "code": error.response["Error"].get("Code"),
                "message": error.response["Error"].get("Message"),
                "status": error.response["ResponseMetadata"]["HTTPStatusCode"],
            }
            if (seen["message"] or "").startswith("<!doctype html>"):
                seen["message"] = "<a page>"
            self.note(step, {"error": seen})
            return {}
        reply.pop("ResponseMetadata")
        self.note(step, reply)
        return reply

    def note(self, step, seen):
        """Writes a step down, as it came."""
        assert step not in self.steps, step
        self.steps[step] = seen

    def name(self, identifier, name):
        """Gives an id a name that both servers share."""
        if identifier:
            self.names.setdefault(identifier, f"<{name}>")

    def normal(self, value):
        """Replaces what differs between any two servers."""
        if isinstance(value, dict):
            return {key: self.member(key, item) for key, item in value.items()}
        if isinstance(value, list):
            return sorted((self.normal(item) for item in value), key=by_name)
        if isinstance(value, datetime.datetime):
            return "<time>"
        if isinstance(value, str):
            for identifier, name in self.names.items():
                value = value.replace(identifier, name)
            value = AN_ID.sub("<id>", value)
        return value

    def member(self, key, value):
        if key == "nextToken":
            return "<token>"
        if key == "clientToken" and not value.startswith("token-"):
            return "<random>"
        return self.normal(value)

    def wait(self, seconds):
        """Lets time pass on a server whose clock can be moved."""
        body = json.dumps({"advance_seconds": seconds}).encode()
        request = urllib.request.Request(f"{self.url}/_simulator/clock", body, method="POST")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            opener.open(request, timeout=10).close()
        except urllib.error.HTTPError:
            pass


def eks(namespace, cluster="eks"):
    return {"type": "EKS", "id": cluster, "info": {"eksInfo": {"namespace": namespace}}}


def job(vc, name, **more):
    arguments = {
        "virtualClusterId": vc,
        "name": name,
        "executionRoleArn": ROLE,
        "releaseLabel": "emr-7.10.0-latest",
        "jobDriver": DRIVER,
    }
    arguments.update(more)
    return {key: value for key, value in arguments.items() if value is not None}


def virtual_clusters(t):
    """Creation, uniqueness, reading."""
    create = "create_virtual_cluster"
    vc = t.call("create", create, name="first", containerProvider=eks("a"), clientToken="token-1")
    t.name(vc["id"], "vc")
    t.note("create: names", {"arn": vc["arn"], "length of id": len(vc["id"])})
    t.call("create: same token", create, name="first", containerProvider=eks("a"), clientToken="token-1")
    t.call("create: same namespace", create, name="second", containerProvider=eks("a"))
    other = t.call("create: same namespace elsewhere", create, name="third", containerProvider=eks("a", "eks-2"))
    t.name(other.get("id"), "vc elsewhere")
    limited = t.call(
        "create: with everything",
        create,
        name="limited",
        containerProvider=eks("b"),
        tags={"team": "a"},
        sessionEnabled=True,
        schedulerConfiguration={"maxConcurrentJobRuns": 1, "maxInQueueJobRuns": 2},
    )
    t.name(limited["id"], "vc limited")
    t.call("describe", "describe_virtual_cluster", id=vc["id"])
    t.call("describe: with everything", "describe_virtual_cluster", id=limited["id"])
    t.call("describe: unknown", "describe_virtual_cluster", id="unknown")
    t.call("list: by EKS cluster", "list_virtual_clusters", containerProviderId="eks", states=["RUNNING"])
    t.call("create: bad name", create, name="bad name!!", containerProvider=eks("bad"))
    t.call("create: no namespace", create, name="no-namespace", containerProvider={"type": "EKS", "id": "eks"})
    t.call(
        "update",
        "update_virtual_cluster",
        id=vc["id"],
        schedulerConfiguration={"maxConcurrentJobRuns": 5},
    )
    return vc["id"]


def start(t, vc):
    """Starting runs."""
    run = t.call(
        "start",
        "start_job_run",
        **job(vc, "pi", configurationOverrides=OVERRIDES, tags={"a": "b"}, clientToken="token-run"),
    )
    t.name(run["id"], "run")
    t.note("start: names", {"arn": run["arn"], "length of id": len(run["id"])})
    again = t.call("start: same token", "start_job_run", **job(vc, "pi", clientToken="token-run"))
    t.name(again.get("id"), "run of the same token")
    t.note("start: same token, same run", again.get("id") == run["id"])
    for label in ["emr-6.10.1-latest", "emr-7.9.0-spark-rapids-latest", "emr-spark-8.1.0"]:
        other = t.call(f"start: {label}", "start_job_run", **job(vc, label, releaseLabel=label))
        t.name(other.get("id"), f"run of {label}")
    retry = t.call(
        "start: with retries",
        "start_job_run",
        **job(vc, "retry", retryPolicyConfiguration={"maxAttempts": 3}),
    )
    t.name(retry["id"], "run with retries")
    t.call("start: bad name", "start_job_run", **job(vc, "bad name!!"))
    t.call("start: no driver", "start_job_run", **job(vc, "no-driver", jobDriver=None))
    t.call("start: no release label", "start_job_run", **job(vc, "no-label", releaseLabel=None))
    t.call("start: unknown cluster", "start_job_run", **job("unknown", "lost"))
    t.call(
        "start: from a template",
        "start_job_run",
        virtualClusterId=vc,
        name="template",
        jobTemplateId="template",
    )
    return run["id"], retry["id"]


def life_cycle(t, vc, run, retry):
    """How runs move, and how they are cancelled."""
    of_run = {"virtualClusterId": vc, "id": run}
    t.call("describe run: at once", "describe_job_run", **of_run)
    t.call("describe run: with retries", "describe_job_run", virtualClusterId=vc, id=retry)
    for state in ["submitted", "running"]:
        t.wait(1.1 * HOUR)
        reply = t.emr.describe_job_run(**of_run)
        t.note(f"describe run: {state}", reply["jobRun"]["state"])
    t.call("cancel", "cancel_job_run", **of_run)
    t.note("cancel: state at once", t.emr.describe_job_run(**of_run)["jobRun"]["state"])
    t.wait(2)
    t.call("cancel: state in the end", "describe_job_run", **of_run)
    t.call("cancel: again", "cancel_job_run", **of_run)
    t.wait(1.1 * HOUR)
    t.call("describe run: ended", "describe_job_run", virtualClusterId=vc, id=retry)
    t.call("describe run: unknown", "describe_job_run", virtualClusterId=vc, id="0000000aaaaaaaaaaaa")
    t.call("cancel: unknown", "cancel_job_run", virtualClusterId=vc, id="0000000aaaaaaaaaaaa")
    t.call("cancel: short id", "cancel_job_run", virtualClusterId=vc, id="short")


def lists(t, vc):
    """Filters and pages, on a cluster of their own."""
    made = t.emr.create_virtual_cluster(name="lists", containerProvider=eks("lists"))["id"]
    t.name(made, "vc of lists")
    for name in ["list", "list-a"]:
        run = t.emr.start_job_run(**job(made, name, configurationOverrides=OVERRIDES, clientToken=f"token-{name}"))
        t.name(run["id"], f"run {name}")
    now = datetime.datetime.now(datetime.timezone.utc)
    # A simulator whose clock was moved is ahead of this one, so the runs were made after this.
    just_now = now - datetime.timedelta(seconds=2)
    t.call("list runs", "list_job_runs", virtualClusterId=made)
    t.call("list runs: name", "list_job_runs", virtualClusterId=made, name="list-a")
    t.call("list runs: completed", "list_job_runs", virtualClusterId=made, states=["COMPLETED"])
    t.call("list runs: unknown state", "list_job_runs", virtualClusterId=made, states=["NAPPING"])
    reply = t.emr.list_job_runs(virtualClusterId=made, createdAfter=just_now)
    t.note("list runs: created after two seconds ago", len(reply["jobRuns"]))
    pages = t.emr.get_paginator("list_job_runs").paginate(virtualClusterId=made, PaginationConfig={"PageSize": 1})
    seen = [[run["name"] for run in page["jobRuns"]] for page in pages]
    t.note("list runs: pages", {"sizes": [len(page) for page in seen], "names": sum(seen, [])})
    t.call("list runs: unknown cluster", "list_job_runs", virtualClusterId="unknown")
    unnamed = t.call("start: no name", "start_job_run", **job(vc, None))
    t.name(unnamed.get("id"), "run without a name")
    t.call("list runs: name, one has none", "list_job_runs", virtualClusterId=vc, name="nobody")


def tags(t, arn):
    """Tags of a live cluster."""
    t.call("tag", "tag_resource", resourceArn=arn, tags={"a:b": "c", "d e": "f"})
    t.call("untag", "untag_resource", resourceArn=arn, tagKeys=["a:b"])
    t.call("tags", "list_tags_for_resource", resourceArn=arn)


def other_operations(t, vc):
    """What the simulator doesn't do must at least say so."""
    t.call("list templates", "list_job_templates")
    t.call("list security configurations", "list_security_configurations")
    t.call("list endpoints", "list_managed_endpoints", virtualClusterId=vc)


def deletion(t, vc):
    """The end of a cluster, and what it leaves."""
    run = t.emr.start_job_run(**job(vc, "survivor"))["id"]
    t.name(run, "run that survives")
    t.call("delete", "delete_virtual_cluster", id=vc)
    t.note("delete: state at once", t.emr.describe_virtual_cluster(id=vc)["virtualCluster"]["state"])
    t.note("delete: its run", t.emr.describe_job_run(virtualClusterId=vc, id=run)["jobRun"]["state"])
    t.wait(2)
    t.note("delete: state in the end", t.emr.describe_virtual_cluster(id=vc)["virtualCluster"]["state"])
    t.call("delete: again", "delete_virtual_cluster", id=vc)
    t.call("delete: unknown", "delete_virtual_cluster", id="unknown")
    t.call("start: on a terminated cluster", "start_job_run", **job(vc, "late"))
    new = t.call("create: namespace of a terminated cluster", "create_virtual_cluster", name="again", containerProvider=eks("a"))
    t.name(new.get("id"), "vc again")


def sts(t):
    """Identities."""
    service = client("sts", t.url)
    identity = service.get_caller_identity()
    t.note("sts: account", identity["Account"])
    role = "arn:aws:iam::210987654321:role/path/ops"
    assumed = service.assume_role(RoleArn=role, RoleSessionName="session")
    t.note("sts: assumed role", assumed["AssumedRoleUser"]["Arn"].split("/", 1)[0])


def transcript(url):
    """Everything, in order."""
    t = Transcript(url)
    vc = virtual_clusters(t)
    run, retry = start(t, vc)
    life_cycle(t, vc, run, retry)
    lists(t, vc)
    tags(t, f"arn:aws:emr-containers:eu-west-1:123456789012:/virtualclusters/{vc}")
    other_operations(t, vc)
    deletion(t, vc)
    sts(t)
    # Only now has every id its name.
    return {step: t.normal(seen) for step, seen in t.steps.items()}


if __name__ == "__main__":
    json.dump(transcript(sys.argv[1]), sys.stdout, indent=2, sort_keys=True)
    print()
