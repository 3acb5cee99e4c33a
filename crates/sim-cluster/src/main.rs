//! `molt-sim`: lives of the operator on a simulated cluster.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use molt_sim_cluster::shrink::shrink;
use molt_sim_cluster::sweep::sweep;
use molt_sim_cluster::{Planted, live};

/// Lives on several threads take and give back JSON most of the time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Lives of the operator on a simulated cluster, with faults, from seeds.
#[derive(Debug, Parser)]
struct Cli {
    /// Seeds `a..b`, or one seed, whose whole timeline is printed then.
    #[arg(default_value = "0..200", value_parser = seeds)]
    seeds: (u64, u64),
    /// Rollouts in each life.
    #[arg(long, default_value_t = 5)]
    rollouts: usize,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let number = |t: &str| t.parse::<u64>().map_err(|e| format!("{t}: {e}"));
    match text.split_once("..") {
        Some((a, b)) => Ok((number(a)?, number(b)?)),
        None => number(text).map(|n| (n, n + 1)),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (from, to) = cli.seeds;
    let planted = Planted::default();
    if to == from + 1 {
        let outcome = live(from, cli.rollouts, &planted);
        outcome.log.iter().for_each(|line| println!("{line}"));
    }
    let summary = sweep(from..to, cli.rollouts, cli.threads, &planted);
    for (seed, outcome) in &summary.failed {
        println!("seed {seed}: {}", outcome.violations.join("; "));
    }
    if let Some((seed, outcome)) = summary.failed.iter().next() {
        let least = shrink(outcome, cli.rollouts, &planted);
        println!("\nseed {seed} with the least faults that break it:");
        for fault in &least.faults {
            println!(
                "  rollout {}, after {} ms: {} ({})",
                fault.rollout + 1,
                fault.after,
                fault.kind,
                fault.size
            );
        }
        least.log.iter().for_each(|line| println!("{line}"));
        println!("\nreplay: make sim SEEDS={seed}");
    }
    print!("{}", summary.table());
    println!("{}", summary.line());
    if summary.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
