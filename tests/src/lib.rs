//! The harness: a real control plane, the operator as a process and AWS over HTTP, for the suites, the demo and the
//! load test.
//!
//! Every server runs behind a [`guard`], so none outlives the process that started it, however that one ends.
//! Nothing here is bound to a tokio runtime: each `#[tokio::test]` has its own, and they share one control plane.
//!
//! | module | what it gives |
//! |---|---|
//! | [`guard`], [`process`] | servers and directories that go when we go; exit codes, logs, memory and CPU time |
//! | [`control_plane`] | etcd, kube-apiserver and, on request, kube-controller-manager |
//! | [`namespace`], [`objects`] | a namespace for each test; objects applied from YAML as kubectl applies them |
//! | [`moto`], [`relay`] | EventBridge and SQS, and the events of the simulated runs |
//! | [`simulator`], [`documented`] | AWS with quick life cycles, and its documented quotas with time made to pass faster |
//! | [`agent`] | credentials as EKS Pod Identity gives them |
//! | [`tls_front`] | the same behind HTTPS with a certificate authority that nobody knows |
//! | [`line`] | a way to a server on which requests can be held up |
//! | [`operator`] | the operator under test |
//! | [`candidate`] | another candidate for the lease, by client-go's rules |
//! | [`clock`] | a wall clock for processes that can be set wrong |
//! | [`chart`] | helm, and the operator as the chart deploys it |
//! | [`kubelet`] | what the kubelet makes of a container's variables and arguments |
//! | [`cluster`] | all of it together, what most suites start from |
//! | [`elsewhere`] | what others do in AWS |
//! | [`history`], [`verdict`] | every version of an object, and what others read from one |
//! | [`faults`] | rounds of faults by seed, and what must be true after each |
//! | [`wait`] | conditions with a deadline, never a blind sleep |

pub mod agent;
pub mod candidate;
pub mod chart;
pub mod clock;
pub mod cluster;
pub mod control_plane;
pub mod documented;
pub mod elsewhere;
pub mod faults;
pub mod guard;
pub mod history;
pub mod kubelet;
pub mod line;
pub mod manifest;
pub mod moto;
pub mod namespace;
pub mod objects;
pub mod operator;
mod pki;
pub mod port;
pub mod process;
pub mod relay;
mod servers;
pub mod simulator;
pub mod tls_front;
pub mod verdict;
pub mod wait;
