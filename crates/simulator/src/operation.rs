//! The operations by name, as faults, quotas and counters know them.

use std::fmt;

macro_rules! operations {
    ($($name:ident),* $(,)?) => {
        /// An operation of emr-containers, or one of the three of STS.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Operation { $($name),* }

        impl Operation {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];

            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }
        }
    };
}

operations!(
    CreateVirtualCluster,
    DescribeVirtualCluster,
    ListVirtualClusters,
    UpdateVirtualCluster,
    DeleteVirtualCluster,
    StartJobRun,
    DescribeJobRun,
    ListJobRuns,
    CancelJobRun,
    TagResource,
    UntagResource,
    ListTagsForResource,
    CreateJobTemplate,
    DescribeJobTemplate,
    ListJobTemplates,
    DeleteJobTemplate,
    CreateManagedEndpoint,
    DescribeManagedEndpoint,
    ListManagedEndpoints,
    DeleteManagedEndpoint,
    GetManagedEndpointSessionCredentials,
    CreateSecurityConfiguration,
    DescribeSecurityConfiguration,
    ListSecurityConfigurations,
    DeleteSecurityConfiguration,
    GetCallerIdentity,
    AssumeRole,
    AssumeRoleWithWebIdentity,
);

impl Operation {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|operation| operation.name() == name)
    }

    pub(crate) fn is_sts(self) -> bool {
        matches!(self, Self::GetCallerIdentity | Self::AssumeRole | Self::AssumeRoleWithWebIdentity)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
