//! The limits that were given on the command line.

use crate::figures::Figures;
use crate::options::Scenario;
use crate::report::per_run;

/// What is wrong with a load; nothing when it was run and no limit is passed.
pub(crate) fn complaints(figures: &Figures, scenario: &Scenario) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut check = |wrong: bool, what: String| {
        if wrong {
            complaints.push(format!("{}: {what}", figures.name));
        }
    };
    check(
        figures.unfinished > 0,
        format!("{} of {} JobRuns did not get as far as they should", figures.unfinished, figures.runs),
    );
    if let Some(limit) = scenario.max_duplicates {
        check(figures.extra_jobs > limit, format!("{} duplicate jobs, not {limit}", figures.extra_jobs));
    }
    if let Some(limit) = scenario.max_aws_calls_per_run {
        let calls = per_run(figures.busy.aws_calls, figures.runs);
        check(calls > limit, format!("{calls:.2} AWS calls a run, not {limit}"));
    }
    if let Some(steady) = &figures.steady {
        if let Some(limit) = scenario.max_idle_aws_calls {
            check(steady.aws_calls > limit, format!("{} AWS calls when idle, not {limit}", steady.aws_calls));
        }
        if let Some(limit) = scenario.max_idle_writes {
            check(steady.writes > limit, format!("{} writes when idle, not {limit}", steady.writes));
        }
    }
    complaints
}
