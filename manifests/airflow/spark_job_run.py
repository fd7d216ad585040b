"""Airflow: submit a JobRun and wait for its end.

Needs Airflow 3 with the provider apache-airflow-providers-cncf-kubernetes and a service account that may create and get jobruns
(manifests/argo/rbac.yaml has the rule). The VirtualCluster `analytics` is in NAMESPACE (manifests/samples).

The name follows from the DAG's run, so a task that is tried again finds the run that it made before instead of starting
a second job; clear the DAG run and delete the JobRun to run it again.
"""

from datetime import datetime, timedelta
from hashlib import sha256

from airflow.exceptions import AirflowException
from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.sdk import BaseSensorOperator, dag, task
from kubernetes.client import ApiException

NAMESPACE = "default"
KIND = {"group": "emrcontainers.services.k8s.aws", "version": "v1alpha1", "plural": "jobruns"}


class JobRunSensor(BaseSensorOperator):
    """Succeeds when the JobRun is COMPLETED; fails, with the reason, when it is FAILED or CANCELLED."""

    template_fields = ("job_run", "namespace")

    def __init__(self, *, job_run: str, namespace: str, kubernetes_conn_id: str = "kubernetes_default", **kwargs):
        super().__init__(**kwargs)
        self.job_run = job_run
        self.namespace = namespace
        self.kubernetes_conn_id = kubernetes_conn_id

    def poke(self, context) -> bool:
        api = KubernetesHook(conn_id=self.kubernetes_conn_id).custom_object_client
        run = api.get_namespaced_custom_object(namespace=self.namespace, name=self.job_run, **KIND)
        # No status yet means: not submitted yet.
        status = run.get("status", {})
        state = status.get("state")
        self.log.info("%s/%s is %s", self.namespace, self.job_run, state or "waiting")
        if state in ("FAILED", "CANCELLED"):
            why = status.get("stateDetails") or status.get("failureReason") or "no reason given"
            raise AirflowException(f"job run {self.job_run} is {state}: {why}")
        return state == "COMPLETED"


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, tags=["emr"])
def spark_job_run():
    @task
    def submit(run_id: str | None = None) -> str:
        name = "word-count-" + sha256(str(run_id).encode()).hexdigest()[:10]
        body = {
            "apiVersion": "emrcontainers.services.k8s.aws/v1alpha1",
            "kind": "JobRun",
            "metadata": {"name": name},
            "spec": {
                "virtualClusterRef": {"from": {"name": "analytics"}},
                "executionRoleARN": "arn:aws:iam::111122223333:role/emr-job-execution",
                "releaseLabel": "emr-7.9.0-latest",
                "jobDriver": {"sparkSubmitJobDriver": {"entryPoint": "s3://example-bucket/scripts/word_count.py"}},
            },
        }
        api = KubernetesHook(conn_id="kubernetes_default").custom_object_client
        try:
            api.create_namespaced_custom_object(namespace=NAMESPACE, body=body, **KIND)
        except ApiException as error:
            if error.status != 409:
                raise
        return name

    JobRunSensor(
        task_id="wait",
        job_run=submit(),
        namespace=NAMESPACE,
        poke_interval=10,
        timeout=timedelta(hours=2).total_seconds(),
        mode="reschedule",
    )


spark_job_run()
