//! Rounds of faults: the operator as a process, many runs, and while they go, what can go wrong does, by seed.
//!
//! | module | what it does |
//! |---|---|
//! | [`family`] | what may go wrong, how often, and how it is known that it was felt; pure |
//! | [`plan`], [`draw`] | what happens in a round and when, drawn from a seed; pure |
//! | [`world`] | what a round takes place in: namespace, rights, simulated AWS, replicas, users |
//! | [`replicas`] | the operator's processes, started again when they end, as a kubelet does |
//! | [`lease`] | blows against the one that leads |
//! | [`ends`] | how a process may end |
//! | [`strike`] | carries out the faults of the clock, of AWS and of the API server |
//! | [`evidence`] | by what it is known that a fault was felt |
//! | [`truth`] | compares what the API server shows with what AWS did; pure |
//! | [`counters`] | compares what the operator counts with what there is; pure |
//! | [`tally`], [`figures`] | what happened, counted |
//!
//! Must not: judge the operator by what it says of itself, but for its own figures.
//! Invariant: the plan depends on the seed and the [`Shape`] alone, so a seed that fails can be tried again. The moments
//! at which faults strike depend on the machine too.

pub mod counters;
pub mod draw;
mod ends;
mod evidence;
pub mod family;
pub mod figures;
mod lease;
pub mod plan;
pub mod replicas;
pub mod strike;
pub mod tally;
pub mod truth;
pub mod world;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio_util::sync::CancellationToken;

pub use self::family::Family;
pub use self::figures::Figures;
pub use self::plan::{Plan, Shape};
use self::world::World;
use crate::control_plane::ControlPlane;

/// Replays the rounds of this seed.
pub const SEED_VARIABLE: &str = "FAULTS_SEED";
/// How long all may take to be as it should once the faults are over: waits between failed passes double, to about the
/// time for which they have failed.
const CALM_WITHIN: Duration = Duration::from_mins(3);

/// The seed that the environment names, or a fresh one.
pub fn seed() -> Result<u64> {
    match std::env::var(SEED_VARIABLE) {
        Ok(text) => text.parse().with_context(|| format!("{SEED_VARIABLE} is no number: {text}")),
        Err(_) => Ok(rand::random()),
    }
}

/// One round: users create and delete runs while the plan's faults strike; then all must become as it should.
pub async fn round(plane: &ControlPlane, seed: u64, shape: &Shape) -> Result<Figures> {
    let plan = Plan::draw(seed, shape);
    let world = World::start(plane, plan.replicas, plan.list_delay).await?;
    let over = CancellationToken::new();
    let lanes = Box::pin(async {
        let struck = tokio::try_join!(
            world.act(&plan.users),
            world.replicas.suffer(&plan.operator, &world.simulator),
            strike::clock(&world, &plan.clock),
            strike::aws(&world, &plan.aws),
            strike::api(&world, &plan.api),
        );
        over.cancel();
        struck
    });
    tokio::select! {
        ended = async { tokio::try_join!(lanes, world.go_on(shape.runs, &over)) } => drop(ended?),
        failed = world.replicas.keep_alive() => failed?,
        failed = world.look_for_orphans() => failed?,
    }
    world.simulator.clear_faults();
    world.simulator.release();
    let mut wrong = tokio::select! {
        wrong = async {
            let wrong = world.settle(CALM_WITHIN).await?;
            if wrong.is_empty() { world.reckon().await } else { Ok(wrong) }
        } => wrong?,
        failed = world.replicas.keep_alive() => { failed?; Vec::new() }
        failed = world.look_for_orphans() => { failed?; Vec::new() }
    };
    world.replicas.end().await?;
    // What the last process did on its way out counts too.
    if wrong.is_empty() {
        wrong = world.judge().await?;
    }
    wrong.extend(world.orphans().await);
    wrong.extend(world.replicas.wrong().await);
    Ok(Figures::of(seed, &world, wrong).await)
}

/// A round in which nothing may be wrong.
pub async fn passes(plane: &ControlPlane, seed: u64, shape: &Shape) -> Result<Figures> {
    let figures = round(plane, seed, shape).await?;
    let wrong: Vec<String> = figures.wrong.iter().map(ToString::to_string).collect();
    ensure!(wrong.is_empty(), "{SEED_VARIABLE}={seed}: {}\n{}", wrong.join("\n"), figures.words);
    Ok(figures)
}
