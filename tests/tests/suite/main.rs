//! Every end-to-end suite, in one binary so that one control plane serves the whole run: a module for each topic.

mod api;
mod bad_input;
mod chart;
mod control_plane;
mod defects_ca_bundle;
mod defects_job_run;
mod defects_process;
mod defects_virtual_cluster;
mod demo;
mod faults;
mod harness;
mod hints;
mod job_run;
mod job_run_conditions;
mod job_run_delete;
mod job_run_observation;
mod job_run_request;
mod leader;
mod load;
mod probes;
mod process;
mod quotas;
mod restore;
mod samples;
mod scope;
mod virtual_cluster;
