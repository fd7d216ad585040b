//! Every end-to-end suite, in one binary so that one control plane serves the whole run: a module for each topic.

mod control_plane;
mod defects_ca_bundle;
mod defects_virtual_cluster;
mod harness;
mod job_run;
mod leader;
mod process;
mod quotas;
mod virtual_cluster;
