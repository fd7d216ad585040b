//! The name by which this process holds the lease, and the namespace that the lease is in.
//!
//! Invariant: two processes that run at the same time have different names; one that follows another in the same pod has
//! the same.

/// Where a pod finds the name of its namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The namespace by convention.
const DEFAULT_NAMESPACE: &str = "ack-system";

/// Names this replica. A pod keeps its name for the lease when its container restarts, so that it can go on at once: the
/// kubelet doesn't start a container before the last one is gone.
pub fn identity() -> String {
    identity_from(variable, &hostname(), rand::random())
}

fn identity_from(variable: impl Fn(&str) -> Option<String>, hostname: &str, random: u64) -> String {
    match (variable("POD_NAME"), variable("POD_UID")) {
        (Some(name), Some(uid)) => format!("{name}_{uid}"),
        _ => format!("{hostname}_{random:016x}"),
    }
}

/// Where the lease is; `flag` is what the command line says.
pub(super) fn namespace(flag: Option<&str>) -> String {
    lease_namespace(flag, pod_namespace(), variable)
}

fn lease_namespace(
    flag: Option<&str>,
    pod: Option<String>,
    variable: impl Fn(&str) -> Option<String>,
) -> String {
    flag.map(ToOwned::to_owned)
        .or(pod)
        .or_else(|| variable("ACK_SYSTEM_NAMESPACE"))
        .or_else(|| variable("K8S_NAMESPACE"))
        .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
}

fn pod_namespace() -> Option<String> {
    not_blank(&std::fs::read_to_string(NAMESPACE_FILE).ok()?)
}

fn hostname() -> String {
    variable("HOSTNAME")
        .or_else(|| not_blank(&std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?))
        .unwrap_or_else(|| "emrcontainers-operator".to_owned())
}

fn variable(name: &str) -> Option<String> {
    not_blank(&std::env::var(name).ok()?)
}

fn not_blank(text: &str) -> Option<String> {
    let trimmed = text.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leases_namespace_falls_back_as_upstreams_does() {
        let both = |name: &str| Some(format!("from-{name}"));
        let second = |name: &str| (name == "K8S_NAMESPACE").then(|| "second".to_owned());
        for (flag, pod, variable, expected) in [
            (Some("flag"), Some("pod"), &both as &dyn Fn(&str) -> Option<String>, "flag"),
            (None, Some("pod"), &both, "pod"),
            (None, None, &both, "from-ACK_SYSTEM_NAMESPACE"),
            (None, None, &second, "second"),
            (None, None, &|_| None, "ack-system"),
        ] {
            assert_eq!(lease_namespace(flag, pod.map(ToOwned::to_owned), variable), expected);
        }
    }

    #[test]
    fn a_pod_keeps_its_identity_and_a_process_elsewhere_gets_a_new_one() {
        let pod = |name: &str| Some(if name == "POD_NAME" { "pod-1" } else { "uid" }.to_owned());
        assert_eq!(identity_from(pod, "host", 7), "pod-1_uid");
        let half = |name: &str| (name == "POD_NAME").then(|| "pod-1".to_owned());
        assert_eq!(identity_from(half, "host", 7), "host_0000000000000007");
        assert_ne!(identity(), identity());
        assert_eq!(not_blank(" a\n").as_deref(), Some("a"));
        assert_eq!(not_blank(" \n"), None);
        assert_eq!(variable("PATH"), std::env::var("PATH").ok().map(|path| path.trim().to_owned()));
        assert!(variable("PATH").is_some() && variable("NO_VARIABLE_HAS_THIS_NAME").is_none());
        assert!(identity().starts_with(&format!("{}_", hostname())) && hostname().len() > 1);
    }
}
