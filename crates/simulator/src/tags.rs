//! The three operations on tags.
//!
//! Decisions where AWS documents nothing: tags of a resource that has ended are read but not
//! changed (ValidationException); taking a key that isn't there succeeds.
//!
//! Invariant: a resource never has more than 50 tags.

use serde_json::json;

use crate::error::ApiError;
use crate::resource::ClusterState;
use crate::service::{Reply, reply};
use crate::state::Store;
use crate::validate;
use crate::wire::Tags;

impl Store {
    pub(crate) fn tag_resource(&mut self, arn: &str, new: Option<Tags>) -> Reply {
        validate::tag_resource(arn, new.as_ref())?;
        let (tags, active) = self.tags_of(arn)?;
        check_active(arn, active)?;
        let new = new.unwrap_or_default();
        let added = new.keys().filter(|key| !tags.contains_key(*key)).count();
        if tags.len() + added > validate::MAX_TAGS {
            return Err(ApiError::validation(format!("Resource {arn} would have more than 50 tags")));
        }
        tags.extend(new);
        reply(&json!({}))
    }

    pub(crate) fn untag_resource(&mut self, arn: &str, keys: &[String]) -> Reply {
        validate::untag_resource(arn, Some(keys))?;
        let (tags, active) = self.tags_of(arn)?;
        check_active(arn, active)?;
        tags.retain(|key, _| !keys.contains(key));
        reply(&json!({}))
    }

    pub(crate) fn list_tags_for_resource(&mut self, arn: &str) -> Reply {
        validate::untag_resource(arn, None)?;
        let (tags, _) = self.tags_of(arn)?;
        reply(&json!({ "tags": tags }))
    }

    /// The tags of a resource, and whether they can be changed.
    fn tags_of(&mut self, arn: &str) -> Result<(&mut Tags, bool), ApiError> {
        let unknown = || ApiError::not_found(format!("Resource {arn} doesn't exist."));
        let prefix = self.arn("");
        let resource = arn.strip_prefix(prefix.as_str()).ok_or_else(unknown)?;
        if let Some((cluster, run)) = resource.split_once("/jobruns/") {
            let index = self.run(cluster, run).map_err(|_| unknown())?;
            let run = self.runs.get_mut(index).ok_or_else(unknown)?;
            let active = !run.state.is_final();
            return Ok((&mut run.tags, active));
        }
        let index = self.cluster(resource).map_err(|_| unknown())?;
        let cluster = self.clusters.get_mut(index).ok_or_else(unknown)?;
        let active = cluster.state != ClusterState::Terminated;
        Ok((&mut cluster.tags, active))
    }
}

fn check_active(arn: &str, active: bool) -> Result<(), ApiError> {
    if active {
        return Ok(());
    }
    Err(ApiError::validation(format!("Resource {arn} is not in an active state: its tags can't be changed")))
}
