//! Counts into evidence, evidence into verdicts.
//!
//! - `counts`, `samples`: from raw samples of counters to requests and bad requests.
//! - `e_process`: one block of counts as a factor of evidence; the formulas.
//! - `evidence`: what an attempt has gathered for one objective; persisted.
//! - `budget`: objectives, error budgets, burn rates.
//! - `exact`: floats in a status.
//! - `verdict`: what the evidence allows and what it forbids.
//!
//! This is the first form: one bet each for harm and for safety, behind the interface of the full
//! sequential engine, which will replace the inside of [`Evidence`] only.

mod budget;
mod counts;
mod e_process;
mod evidence;
mod exact;
mod samples;
mod verdict;

pub use budget::{BURN_RATES, Burn, BurnRate, Objective, Severity};
pub use counts::Counts;
pub use e_process::{ln_harm_factor, ln_point_factor, ln_safe_factor, plug_in};
pub use evidence::{Block, Evidence, MARGINS};
pub use samples::{Sample, Series, find_edge, fresh, histogram_edges, increase};
pub use verdict::{
    Harm, HarmKind, Lack, Limits, SloView, WATCH, judge_harm, margin_for_promotion, margin_for_step,
    safe_for_promotion, safe_for_step,
};
