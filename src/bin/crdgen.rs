//! Writes the CustomResourceDefinitions into directories: `crdgen crds charts/molt/crds`. `crdgen --argocd` prints what
//! Argo CD has to know; `crdgen --reference docs` writes the reference pages.

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
    if let [flag, directory] = directories.as_slice()
        && flag == "--reference"
    {
        let pages = molt::reference::pages();
        let written = pages
            .iter()
            .try_for_each(|(name, text)| fs::write(Path::new(directory).join(name), text));
        return written.map_or_else(
            |error| {
                eprintln!("crdgen: {}: {error}", directory.display());
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        );
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
