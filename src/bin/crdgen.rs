//! Writes the CustomResourceDefinitions into directories: `crdgen crds charts/molt/crds`. `crdgen --argocd` prints what
//! Argo CD has to know.

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

fn main() -> ExitCode {
    let directories: Vec<_> = env::args_os().skip(1).collect();
    if directories.is_empty() {
        print!("{}", molt::api::crds::all_yaml());
    }
    if directories == ["--argocd"] {
        print!("{}", molt::gitops::argocd::config_map());
        return ExitCode::SUCCESS;
    }
    for directory in &directories {
        if let Err(error) = write(Path::new(directory)) {
            eprintln!("crdgen: {}: {error}", directory.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn write(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for (name, text) in molt::api::crds::files() {
        fs::write(directory.join(name), text)?;
    }
    Ok(())
}
