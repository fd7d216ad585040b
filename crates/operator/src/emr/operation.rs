//! The operations that we call, by the names that AWS and its quotas use.

use std::fmt;

/// An operation of the emr-containers API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Starts a job run.
    StartJobRun,
    /// Asks a job run to end.
    CancelJobRun,
    /// Reads one job run.
    DescribeJobRun,
    /// Reads the job runs of a virtual cluster.
    ListJobRuns,
    /// Registers a namespace of an EKS cluster.
    CreateVirtualCluster,
    /// Reads one virtual cluster.
    DescribeVirtualCluster,
    /// Reads all virtual clusters.
    ListVirtualClusters,
    /// Replaces the scheduler configuration of a virtual cluster.
    UpdateVirtualCluster,
    /// Asks a virtual cluster to end.
    DeleteVirtualCluster,
    /// Adds or replaces tags.
    TagResource,
    /// Removes tags.
    UntagResource,
    /// Reads tags.
    ListTagsForResource,
}

impl Operation {
    /// Every operation that we call.
    pub const ALL: [Self; 12] = [
        Self::StartJobRun,
        Self::CancelJobRun,
        Self::DescribeJobRun,
        Self::ListJobRuns,
        Self::CreateVirtualCluster,
        Self::DescribeVirtualCluster,
        Self::ListVirtualClusters,
        Self::UpdateVirtualCluster,
        Self::DeleteVirtualCluster,
        Self::TagResource,
        Self::UntagResource,
        Self::ListTagsForResource,
    ];

    /// The name in the API, in IAM policies and in the table of quotas.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StartJobRun => "StartJobRun",
            Self::CancelJobRun => "CancelJobRun",
            Self::DescribeJobRun => "DescribeJobRun",
            Self::ListJobRuns => "ListJobRuns",
            Self::CreateVirtualCluster => "CreateVirtualCluster",
            Self::DescribeVirtualCluster => "DescribeVirtualCluster",
            Self::ListVirtualClusters => "ListVirtualClusters",
            Self::UpdateVirtualCluster => "UpdateVirtualCluster",
            Self::DeleteVirtualCluster => "DeleteVirtualCluster",
            Self::TagResource => "TagResource",
            Self::UntagResource => "UntagResource",
            Self::ListTagsForResource => "ListTagsForResource",
        }
    }

    /// The kind of operation, as the `op_type` label of ACK's metrics spells it.
    pub const fn op_type(self) -> &'static str {
        match self {
            Self::StartJobRun | Self::CreateVirtualCluster => "CREATE",
            Self::CancelJobRun | Self::DeleteVirtualCluster => "DELETE",
            Self::DescribeJobRun | Self::DescribeVirtualCluster => "READ_ONE",
            Self::ListJobRuns | Self::ListVirtualClusters | Self::ListTagsForResource => "READ_MANY",
            Self::UpdateVirtualCluster | Self::TagResource | Self::UntagResource => "UPDATE",
        }
    }

    /// Whether the call changes something. Such calls go ahead of reads where both draw from the same bucket.
    pub const fn is_write(self) -> bool {
        match self {
            Self::StartJobRun
            | Self::CancelJobRun
            | Self::CreateVirtualCluster
            | Self::UpdateVirtualCluster
            | Self::DeleteVirtualCluster
            | Self::TagResource
            | Self::UntagResource => true,
            Self::DescribeJobRun
            | Self::ListJobRuns
            | Self::DescribeVirtualCluster
            | Self::ListVirtualClusters
            | Self::ListTagsForResource => false,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_one_that_the_quotas_know() {
        for operation in Operation::ALL {
            assert!(crate::quotas::operations().any(|name| name == operation.name()), "{operation}");
        }
    }
}
