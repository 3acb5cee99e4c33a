//! Writes the table of rules into documents: `cargo run -p molt-readiness --example document -- docs/readiness.md`.

use std::process::ExitCode;

use molt_readiness::{Catalogue, document};

fn main() -> ExitCode {
    for path in std::env::args().skip(1) {
        let filled = std::fs::read_to_string(&path)
            .map_err(|error| error.to_string())
            .and_then(|text| {
                document::fill(&text, Catalogue::all()).ok_or("has no place for the table".to_owned())
            })
            .and_then(|text| std::fs::write(&path, text).map_err(|error| error.to_string()));
        if let Err(error) = filled {
            eprintln!("{path}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
