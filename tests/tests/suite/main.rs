//! Every end-to-end suite, in one binary so that one control plane serves the whole run: a module for each topic.

mod api;
mod bad_input;
mod chart;
mod control_plane;
mod demo;
mod harness;
mod job_run;
mod load;
mod samples;
