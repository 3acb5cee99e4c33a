//! Counts into evidence, evidence into verdicts.
//!
//! - `counts`, `samples`: from raw samples of counters to requests and bad requests.
//! - `falls`: counters of several processes that answer in turn, which are no evidence.
//! - `e_process`: one block of counts as a factor of evidence; the formulas.
//! - `bets`, `safety`: running products of such factors, for harm and for safety.
//! - `clustering`: how much less the evidence says when requests are not independent.
//! - `exposure`, `share`, `flow`: whether the canary answers at all, all that is due to it, and as much as usual.
//! - `past`: what stable did before the attempt.
//! - `windows`: how fast each revision burns the budget now.
//! - `guards`: what the runtime of the canary's pods does beside stable's.
//! - `evidence`: all of it, as an attempt has gathered it for one objective; persisted.
//! - `budget`: objectives, error budgets, burn rates.
//! - `exact`: floats in a status.
//! - `verdict`, `harm`: what the evidence allows, what it forbids, and how that is told.

mod bets;
mod budget;
mod clustering;
mod counts;
mod e_process;
mod evidence;
mod exact;
mod exposure;
mod falls;
mod flow;
mod guards;
mod harm;
mod past;
mod safety;
mod samples;
mod share;
mod verdict;
mod windows;

pub use budget::{BURN_RATES, Burn, BurnRate, Objective, Severity};
pub use clustering::{POD_SLOTS, PodCounts, correlation_in};
pub use counts::Counts;
pub use e_process::{ln_harm_factor, ln_point_factor, ln_safe_factor, plug_in};
pub use evidence::{Block, During, Evidence};
pub use exposure::AtRoute;
pub use falls::{Falls, MANY_FALLS, Starts, look_back};
pub use guards::{
    Compared, FALSE_ALARM, Growth, GuardEvidence, Losses, MEMORY_WINDOW, SMALL_FALSE_ALARM, Shown, Silence,
    far_more, growth,
};
pub use harm::{Harm, HarmKind};
pub use past::{Past, PastFlow};
pub use safety::{MARGINS, MOST_MARGINS};
pub use samples::{Sample, Series, find_edge, fresh, histogram_edges, increase};
pub use share::LN_MOST_ENOUGH;
pub use verdict::{
    Lack, Limits, Overdraft, SloView, Unanswered, WATCH, affordable, incident, judge_harm, judge_watch,
    margin_for_promotion, margin_for_step, safe_for_promotion, safe_for_step,
};
