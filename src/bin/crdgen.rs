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
            .try_for_each(|(name, text)| put(&Path::new(directory).join(name), text));
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
        put(&directory.join(name), &text)?;
    }
    Ok(())
}

/// Writes a file that is not so already. The binaries are made of some of them: a new date would have all of it built again.
fn put(path: &Path, text: &str) -> io::Result<()> {
    match fs::read_to_string(path) {
        Ok(there) if there == text => Ok(()),
        _ => fs::write(path, text),
    }
}
