//! What the flags mean, in tables.

use super::*;
use crate::metrics::Kind;

/// Reads a command line as if the environment were empty.
fn read(arguments: &str) -> Result<Settings, SettingsError> {
    let command = Args::command().mut_args(|arg| arg.env(None::<&str>));
    Settings::from_command(command, std::iter::once("operator").chain(arguments.split_whitespace()))
}

fn settings(arguments: &str) -> Settings {
    read(&format!("--aws-region=eu-central-1 {arguments}"))
        .unwrap_or_else(|error| panic!("{arguments}: {error}"))
}

fn problems(arguments: &str) -> Vec<String> {
    match read(&format!("--aws-region=eu-central-1 {arguments}")) {
        Err(SettingsError::Problems(problems)) => problems,
        other => panic!("{arguments}: {other:?}"),
    }
}

#[test]
fn the_defaults_are_upstreams_except_where_we_say_so() {
    let expected = Settings {
        aws_region: "eu-central-1".to_owned(),
        aws_endpoint_url: None,
        aws_identity_endpoint_url: None,
        allow_unsafe_aws_endpoint_urls: false,
        event_queue: None,
        aws_quotas: Quotas::documented(),
        metrics_addr: Some("0.0.0.0:8080".parse().unwrap()),
        healthz_addr: Some("0.0.0.0:8081".parse().unwrap()),
        log_level: LogLevel::Info,
        development_logging: false,
        watch_selector: kube::core::Selector::default(),
        watch_namespaces: vec![],
        resource_tags: vec![
            (
                "services.k8s.aws/controller-version".to_owned(),
                "%CONTROLLER_SERVICE%-%CONTROLLER_VERSION%".to_owned(),
            ),
            ("services.k8s.aws/namespace".to_owned(), "%K8S_NAMESPACE%".to_owned()),
        ],
        deletion_policy: DeletionPolicy::Delete,
        http_client_timeout: Duration::from_secs(10),
        worked_on: WorkedOn::default(),
        resync_period: PerKind::new(Duration::from_mins(10), []),
        max_concurrent_syncs: PerKind::new(20, []),
        leader_election: LeaderElection::IfAllowed,
        leader_election_namespace: None,
        lease_times: LeaseTimes::default(),
        cross_namespace: true,
        field_exports: true,
        job_ready_policy: JobReadyPolicy::Outcome,
        feature_gates: FeatureGates::default(),
        read_only: false,
        enable_carm: true,
        system_namespace: "ack-system".to_owned(),
        warnings: vec![],
    };
    assert_eq!(settings(""), expected);
}

#[test]
fn a_flag_is_read_as_go_reads_it() {
    assert_eq!(settings("--log-level debug").log_level, LogLevel::Debug);
    for (level, expected) in [
        ("trace", LogLevel::Trace),
        ("", LogLevel::Info),
        ("warn", LogLevel::Warn),
        ("Warning", LogLevel::Warn),
        ("fatal", LogLevel::Error),
    ] {
        assert_eq!(settings(&format!("--log-level={level}")).log_level, expected, "{level}");
    }
    assert_eq!(
        settings("--log-level=warn --log-level=debug").log_level,
        LogLevel::Debug,
        "the last one counts"
    );
    for (arguments, expected) in [
        ("--enable-leader-election", LeaderElection::On),
        ("--enable-leader-election=true", LeaderElection::On),
        ("--enable-leader-election=1", LeaderElection::On),
        ("--enable-leader-election=false", LeaderElection::Off),
        ("--enable-leader-election=F", LeaderElection::Off),
        ("--enable-leader-election=auto", LeaderElection::IfAllowed),
        ("--enable-leader-election --log-level debug", LeaderElection::On),
    ] {
        assert_eq!(settings(arguments).leader_election, expected, "{arguments}");
    }
    assert!(
        read("--aws-region=eu-central-1 --enable-leader-election false").is_err(),
        "Go doesn't read it either"
    );
}

#[test]
fn a_period_and_a_number_of_passes_are_a_kinds_own_or_those_of_all() {
    let both = settings(
        "--reconcile-default-resync-seconds 60 --reconcile-resource-resync-seconds VirtualCluster=5 \
         --reconcile-default-max-concurrent-syncs 4 --reconcile-resource-max-concurrent-syncs JobRun=30",
    );
    let [runs, clusters] = [Kind::JobRun, Kind::VirtualCluster];
    assert_eq!([runs, clusters].map(|kind| both.max_concurrent_syncs.of(kind)), [30, 4]);
    assert_eq!([runs, clusters].map(|kind| both.resync_period.of(kind).as_secs()), [60, 5]);
    assert_eq!(both.warnings, Vec::<String>::new());
    assert_eq!(
        settings("--reconcile-default-resync-seconds 0").resync_period.of(clusters),
        timing::CLUSTER_RESYNC
    );
}

#[test]
fn what_has_no_effect_is_told_and_not_refused() {
    for (argument, words) in [
        (
            "--enable-webhook-server",
            "--enable-webhook-server=true has no effect because no webhook is needed",
        ),
        ("--webhook-server-addr=:9443", "has no effect because no webhook is needed"),
        ("--aws-endpoint-use-path-style", "has no effect because it is about S3"),
        (
            "--reconcile-resource-resync-seconds=JobRun=15",
            "has no effect for JobRun: live runs are looked at",
        ),
        ("--http-client-timeout=2h", "--http-client-timeout is `2h`, for which 60s is taken"),
        ("--http-client-timeout=0", "use 60s or less"),
        ("--log-level=loud", "--log-level is `loud`, for which info is taken: use trace, debug"),
    ] {
        let warnings = settings(argument).warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(words), "{argument}: {warnings:?}");
    }
    for argument in
        ["--enable-webhook-server=false", "--webhook-server-addr=0.0.0.0:9433", "--http-client-timeout=60s"]
    {
        assert_eq!(settings(argument).warnings, Vec::<String>::new(), "{argument}");
    }
}

#[test]
fn values_are_read() {
    assert_eq!(settings("--watch-namespace=a,b").watch_namespaces, ["a", "b"]);
    assert_eq!(settings("--watch-namespace=team-1,2nd").watch_namespaces, ["team-1", "2nd"]);
    assert_eq!(settings("--resource-tags=").resource_tags, []);
    assert_eq!(
        settings("--resource-tags team=a=b,empty=,=unnamed --resource-tags=more=1,team=c").resource_tags,
        [("more", "1"), ("team", "c")].map(|(key, value)| (key.to_owned(), value.to_owned()))
    );
    assert_eq!(
        tags(&[r#" by = us ,"of=a,b""#.to_owned()]).unwrap(),
        [("by", "us"), ("of", "a,b")].map(|(key, value)| (key.to_owned(), value.to_owned()))
    );
    assert_eq!(settings("--metrics-addr=:9090").metrics_addr, Some("0.0.0.0:9090".parse().unwrap()));
    assert_eq!(
        settings("--metrics-addr=localhost:9090").metrics_addr,
        Some("127.0.0.1:9090".parse().unwrap())
    );
    assert_eq!(settings("--metrics-addr=[::]:9090").metrics_addr, Some("[::]:9090".parse().unwrap()));
    assert_eq!(settings("--metrics-addr=0").metrics_addr, None);
    assert_eq!(settings("--metrics-addr=").metrics_addr, Some("0.0.0.0:8080".parse().unwrap()));
    assert_eq!(settings("--healthz-addr=").healthz_addr, None);
    for (timeout, seconds) in [("30s", 30), ("1m", 60), ("60s", 60), ("0", 60), ("0s", 60), ("2h", 60)] {
        let settings = settings(&format!("--http-client-timeout={timeout}"));
        assert_eq!(settings.http_client_timeout.as_secs(), seconds, "{timeout}");
    }
    assert_eq!(settings("--deletion-policy=retain").deletion_policy, DeletionPolicy::Retain);
    assert!(!settings("--enable-cross-namespace=false").cross_namespace);
    assert!(!settings("--enable-field-export-reconciler=false").field_exports);
    assert_eq!(settings("--job-ready-policy=synced").job_ready_policy, JobReadyPolicy::Synced);
    assert!(!settings("--enable-carm=false").enable_carm);
    assert!(settings("--feature-gates=TeamLevelCARM=true").warnings.is_empty());
    let idle = settings("--enable-carm=false --feature-gates=TeamLevelCARM=true").warnings;
    assert!(idle.len() == 1 && idle[0].contains("have no effect with --enable-carm=false"), "{idle:?}");
    assert!(
        settings("--enable-carm=false --feature-gates=IAMRoleSelector=true").feature_gates.iam_role_selector
    );
    for (arguments, expected) in
        [("--k8s-namespace=here", "here"), ("--k8s-namespace=here --ack-system-namespace=there", "there")]
    {
        assert_eq!(settings(arguments).system_namespace, expected);
    }
    let lease = settings("--leader-election-namespace=leases").leader_election_namespace;
    assert_eq!(lease.as_deref(), Some("leases"));
    assert_eq!(settings("--aws-quotas=off").aws_quotas, Quotas::Off);
    let unsafe_endpoint =
        settings("--aws-endpoint-url http://127.0.0.1:4566 --allow-unsafe-aws-endpoint-urls");
    assert_eq!(unsafe_endpoint.aws_endpoint_url.as_deref(), Some("http://127.0.0.1:4566"));
    let safe_endpoint = settings("--aws-identity-endpoint-url https://sts.example.com");
    assert_eq!(safe_endpoint.aws_identity_endpoint_url.as_deref(), Some("https://sts.example.com"));
}

#[test]
fn a_problem_names_the_flag_and_the_remedy() {
    for (arguments, expected) in [
        (
            "--aws-region=",
            "--aws-region is empty: give the region, such as eu-central-1, here or in AWS_REGION",
        ),
        ("--aws-region=EU_1", "--aws-region is `EU_1`, which is no region"),
        ("--aws-endpoint-url=http://localhost", "add --allow-unsafe-aws-endpoint-urls to accept it"),
        (
            "--aws-endpoint-url=localhost:4566",
            "--aws-endpoint-url is `localhost:4566`, which is no endpoint URL",
        ),
        ("--aws-endpoint-url=ftp://x --allow-unsafe-aws-endpoint-urls", "which is no endpoint URL"),
        ("--aws-identity-endpoint-url=https://u:p@x", "which is no endpoint URL"),
        ("--aws-endpoint-url=https://x?y=z", "which is no endpoint URL"),
        ("--aws-quotas=Start=1:1", "--aws-quotas unknown operation `Start`: use one of all, CancelJobRun"),
        ("--metrics-addr=8080", "--metrics-addr is `8080`, which is no address"),
        ("--watch-namespace=a,,b", "--watch-namespace is `a,,b`, which has a blank entry"),
        ("--watch-namespace=a,a", "--watch-namespace names `a` twice"),
        ("--watch-namespace=,", "which has a blank entry"),
        (
            "--leader-election-namespace=a-",
            "--leader-election-namespace has `a-`, which can't be a namespace",
        ),
        ("--watch-namespace=-a", "--watch-namespace has `-a`, which can't be a namespace"),
        ("--watch-namespace=A", "--watch-namespace has `A`, which can't be a namespace"),
        ("--resource-tags=a", "--resource-tags has `a`, which is no tag: use the form key=value,key=value"),
        ("--resource-tags=a=1,,b=2", "--resource-tags has ``, which is no tag"),
        ("--deletion-policy=orphan", "--deletion-policy is `orphan`: use delete or retain"),
        ("--deletion-policy=", "--deletion-policy is ``: use delete or retain"),
        ("--reconcile-default-max-concurrent-syncs=0", "is `0`: use a whole number from 1 to 65535"),
        ("--reconcile-default-max-concurrent-syncs -1", "is `-1`: use a whole number from 1 to 65535"),
        ("--enable-leader-election=maybe", "--enable-leader-election is `maybe`: use true, false or auto"),
        (
            "--leader-election-lease-duration=9s",
            "--leader-election-renew-deadline is 10s: use less than the lease duration, 9s",
        ),
        ("--leader-election-retry-period=soon", "--leader-election-retry-period is `soon`"),
        ("--job-ready-policy=x", "--job-ready-policy is `x`: use outcome or synced"),
        (
            "--feature-gates=IAMRoleSelector=true",
            "cannot enable feature gate 'IAMRoleSelector' when flag 'enable-carm' is set to true: add --enable-carm=false",
        ),
        ("--enable-carm=perhaps", "--enable-carm is `perhaps`: use true or false"),
        ("--ack-system-namespace=A", "--ack-system-namespace has `A`, which can't be a namespace"),
        ("--feature-gates=Adopt=true", "--feature-gates has the unknown feature gate `Adopt`: use one of"),
        ("--watch-selectors=a=b,", "--watch-selectors has the key ``"),
        ("--reconcile-resources=JobRun,,", "--reconcile-resources is `JobRun,,`, which has a blank entry"),
        ("--reconcile-resources=JobRun,JobRun", "--reconcile-resources names `JobRun` twice"),
        ("--reconcile-resources=Bucket", "names the kind `Bucket`, which is none of this operator's"),
        ("--reconcile-default-resync-seconds=-1", "--reconcile-default-resync-seconds is `-1`: use a whole"),
        ("--reconcile-resource-resync-seconds=JobRun", "is `JobRun`: use the form Kind=number"),
        ("--reconcile-resource-resync-seconds=VirtualCluster=0", "with a whole number above 0"),
        ("--reconcile-resource-resync-seconds=virtualcluster=5", "use JobRun or VirtualCluster"),
        ("--reconcile-resource-max-concurrent-syncs=JobRun=-3", "with a whole number above 0"),
        ("--http-client-timeout=60", "--http-client-timeout is `60`, which is no time: use the form 30s"),
        ("--http-client-timeout=-5s", "which is no time"),
        ("--webhook-server-addr=9433", "--webhook-server-addr is `9433`, which is no address"),
        ("--enable-webhook-server=maybe", "--enable-webhook-server is `maybe`: use true or false"),
    ] {
        let problems = problems(arguments);
        assert_eq!(problems.len(), 1, "{arguments}: {problems:?}");
        assert!(problems[0].contains(expected), "{arguments}: {problems:?}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let all = problems(
        "--aws-region= --reconcile-resources=x --deletion-policy=x --aws-quotas= --watch-selectors=a=%",
    );
    assert_eq!(all.len(), 5, "{all:?}");
}
