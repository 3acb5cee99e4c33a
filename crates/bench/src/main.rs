//! `make bench-decisions`: writes `docs/decisions.md` and `docs/img/decisions.svg`.

use std::error::Error;
use std::time::Instant;
use std::{env, fs};

use molt_bench::cases::CASES;
use molt_bench::measure::{Contender, measure};
use molt_bench::report::{self, Row};
use molt_bench::rivals::{argo, flagger, kayenta};
use molt_bench::{chart, tune};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let runs: usize = arguments.next().as_deref().unwrap_or("10000").parse()?;
    let seed: u64 = arguments.next().as_deref().unwrap_or("1").parse()?;
    let began = Instant::now();
    let mut rows = Vec::new();
    for (purpose, case) in (0..).zip(CASES) {
        let [best_argo, best_flagger, best_kayenta] = tune::tuned(&case, seed, purpose);
        let contenders = [
            Contender::Molt,
            Contender::Argo(argo::Settings::DOCUMENTED),
            best_argo,
            Contender::Flagger(flagger::Settings::DOCUMENTED),
            best_flagger,
            Contender::Kayenta(kayenta::Settings::DOCUMENTED),
            best_kayenta,
        ];
        let outcomes = measure(&case, &contenders, runs, seed, purpose);
        eprintln!("{:>4} s  {}", began.elapsed().as_secs(), case.name);
        rows.push(Row {
            case,
            contenders,
            outcomes,
        });
    }
    // Rollouts from end to end (steps, dwell, promotion) need the state machine: they are a section of their
    // own, to be added here.
    let tables = report::tables(&rows);
    println!("{tables}\n{}", report::goals(&rows));
    fs::create_dir_all("docs/img")?;
    fs::write("docs/decisions.md", report::document(&rows, runs, seed))?;
    fs::write("docs/img/decisions.svg", chart::draw(&rows))?;
    println!("docs/decisions.md and docs/img/decisions.svg are written");
    Ok(())
}
