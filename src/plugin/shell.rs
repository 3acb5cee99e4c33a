//! What a shell and a reader of manuals need: completion as kubectl asks a plugin for it, scripts for the plugin's own name,
//! manual pages. All of it is made from the definition of the command line.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, Args, Command, CommandFactory, ValueEnum};
use clap_complete::Shell;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ListParams, ObjectList};
use kube::config::Kubeconfig;
use kube::{Api, ResourceExt};

use super::connect::Cluster;
use super::{Cli, Failure, Target, text};

/// A shell must not wait for a cluster that is away.
const PATIENCE: Duration = Duration::from_secs(2);
/// What kubectl is told after the candidates: no names of files.
const NO_FILES: &str = ":4";
/// The same where files are meant: the shell's own completion.
const FILES: &str = ":0";
/// kubectl asks the plugin `molt` for completions by running an executable of this name.
const HELPER: &str = "kubectl_complete-molt";

/// Which script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Script {
    /// The executable `kubectl_complete-molt`, which completes `kubectl molt` in every shell that kubectl completes in.
    Kubectl,
    /// bash, for `kubectl-molt`.
    Bash,
    /// elvish, for `kubectl-molt`.
    Elvish,
    /// fish, for `kubectl-molt`.
    Fish,
    /// `PowerShell`, for `kubectl-molt`.
    Powershell,
    /// zsh, for `kubectl-molt`.
    Zsh,
}

#[derive(Debug, Args)]
pub(super) struct CompletionArgs {
    /// Which script.
    script: Script,
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Where to write them; it is made if it is not there.
    directory: PathBuf,
}

/// Prints a script.
pub(super) fn completion(args: &CompletionArgs) -> ExitCode {
    let shell = match args.script {
        Script::Kubectl => {
            text::print(&format!(
                "#!/bin/sh\n# {HELPER}: put it on the PATH, executable, beside kubectl-molt.\nexec kubectl-molt __complete -- \"$@\"\n"
            ));
            return ExitCode::SUCCESS;
        }
        Script::Bash => Shell::Bash,
        Script::Elvish => Shell::Elvish,
        Script::Fish => Shell::Fish,
        Script::Powershell => Shell::PowerShell,
        Script::Zsh => Shell::Zsh,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut own_name(), "kubectl-molt", &mut script);
    text::print(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

/// The command line by the name of its executable: a shell has no command of two words.
fn own_name() -> Command {
    Cli::command().bin_name("kubectl-molt")
}

/// Every command with its help, as a page of Markdown.
pub(super) fn reference() -> String {
    let mut root = Cli::command();
    root.build();
    let mut page = String::from(
        "# Every command\n\nMade from the command line itself (`make generate`): what `--help` says.\n",
    );
    describe(&mut page, &mut root);
    page
}

fn describe(page: &mut String, command: &mut Command) {
    // Help is wrapped to the terminal's width where there is one.
    let title = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let help = command.clone().term_width(100).render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    // Writing to a String does not fail.
    let _ = write!(
        page,
        "\n## {title}\n\n```text\n{}\n```\n",
        lines.join("\n").trim_end()
    );
    for sub in command.get_subcommands_mut() {
        if sub.get_name() != "help" && !sub.is_hide_set() {
            describe(page, sub);
        }
    }
}

/// Writes a manual page for each command.
pub(super) fn man(args: &ManArgs) -> Result<ExitCode, Failure> {
    let failed = |error: io::Error| Failure::Other(format!("{}: {error}", args.directory.display()));
    fs::create_dir_all(&args.directory).map_err(failed)?;
    clap_mangen::generate_to(own_name(), &args.directory).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

/// Answers kubectl: candidates for the last of these words, one a line, then what to do about files.
pub(super) async fn complete(
    words: &[OsString],
    cluster: impl AsyncFnOnce(Target) -> Result<Cluster, Failure>,
) -> ExitCode {
    let words: Vec<String> = words.iter().map(|w| w.to_string_lossy().into_owned()).collect();
    let mut root = Cli::command();
    root.build();
    let asked = asked(&root, &words);
    let (mut candidates, directive) = match &asked {
        Asked::Words(words) => (words.clone(), NO_FILES),
        Asked::Files => (Vec::new(), FILES),
        Asked::Names(of) => (names(*of, cluster(said(&words))).await, NO_FILES),
        Asked::Contexts => (contexts(said(&words).kubeconfig), NO_FILES),
        Asked::Nothing => (Vec::new(), NO_FILES),
    };
    let begun = words.last().map_or("", String::as_str);
    candidates.retain(|word| word.starts_with(begun));
    let mut out = io::stdout().lock();
    // A shell that has gone needs no answer.
    let _ = writeln!(
        out,
        "{}{directive}",
        candidates
            .iter()
            .fold(String::new(), |text, word| text + word + "\n")
    );
    ExitCode::SUCCESS
}

/// What the last word can be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Words(Vec<String>),
    Files,
    Names(Kind),
    Contexts,
    Nothing,
}

/// What the API server knows names of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Services,
    Namespaces,
}

/// The flags among the words that say which cluster and namespace are meant.
fn said(words: &[String]) -> Target {
    let value = |long: &str, short: Option<&str>| {
        let with = format!("{long}=");
        words.iter().enumerate().find_map(|(i, word)| {
            if word == long || Some(word.as_str()) == short {
                // The word that is being completed is no value yet.
                return words.get(i + 1).filter(|_| i + 2 < words.len()).cloned();
            }
            word.strip_prefix(&with).map(str::to_owned)
        })
    };
    Target {
        namespace: value("--namespace", Some("-n")),
        context: value("--context", None),
        kubeconfig: value("--kubeconfig", None).map(PathBuf::from),
    }
}

fn asked(root: &Command, words: &[String]) -> Asked {
    let Some((begun, before)) = words.split_last() else {
        return Asked::Nothing;
    };
    let (mut command, mut awaits, mut positionals) = (root, None, 0);
    for word in before {
        if awaits.take().is_some() {
            continue;
        }
        if word.starts_with('-') {
            awaits = flag(command, word).filter(|arg| takes_value(arg) && !word.contains('='));
        } else if let Some(sub) = command.find_subcommand(word) {
            (command, positionals) = (sub, 0);
        } else {
            positionals += 1;
        }
    }
    if let Some(arg) = awaits {
        return values(arg);
    }
    if begun.starts_with('-') {
        let visible = command.get_arguments().filter(|arg| !arg.is_hide_set());
        let flags = visible.filter_map(|arg| arg.get_long().map(|long| format!("--{long}")));
        return Asked::Words(flags.collect());
    }
    let subcommands = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    let subcommands: Vec<String> = subcommands.map(|sub| sub.get_name().to_owned()).collect();
    if !subcommands.is_empty() {
        return Asked::Words(subcommands);
    }
    let all: Vec<&Arg> = command.get_positionals().collect();
    let repeats = |arg: &&&Arg| arg.get_num_args().is_some_and(|n| n.max_values() > 1);
    let last = all.last().filter(repeats);
    all.get(positionals)
        .or(last)
        .map_or(Asked::Nothing, |arg| values(arg))
}

fn flag<'c>(command: &'c Command, word: &str) -> Option<&'c Arg> {
    let is_it = |arg: &&Arg| match word.strip_prefix("--") {
        Some(long) => arg.get_long() == long.split('=').next(),
        None => arg.get_short() == word.chars().nth(1),
    };
    command.get_arguments().find(is_it)
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

fn values(arg: &Arg) -> Asked {
    let possible = arg.get_possible_values();
    let visible: Vec<String> = possible
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| value.get_name().to_owned())
        .collect();
    match arg.get_id().as_str() {
        _ if !visible.is_empty() => Asked::Words(visible),
        "name" => Asked::Names(Kind::Services),
        "namespace" => Asked::Names(Kind::Namespaces),
        "context" => Asked::Contexts,
        "file" | "files" | "kubeconfig" | "blocks" | "directory" | "svg" => Asked::Files,
        _ => Asked::Nothing,
    }
}

/// The names there are, or none where they can't be read in time.
async fn names(of: Kind, cluster: impl Future<Output = Result<Cluster, Failure>>) -> Vec<String> {
    let read = async {
        let cluster = cluster.await.ok()?;
        let all = ListParams::default();
        let names = match of {
            Kind::Services => named(&cluster.services().list_metadata(&all).await.ok()?),
            Kind::Namespaces => {
                let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
                named(&namespaces.list_metadata(&all).await.ok()?)
            }
        };
        Some(names)
    };
    tokio::time::timeout(PATIENCE, read)
        .await
        .ok()
        .flatten()
        .unwrap_or_default()
}

fn named<K: Clone + ResourceExt>(list: &ObjectList<K>) -> Vec<String> {
    list.iter().map(ResourceExt::name_any).collect()
}

/// The contexts of the kubeconfig, or none where it can't be read.
fn contexts(kubeconfig: Option<PathBuf>) -> Vec<String> {
    let read = kubeconfig.map_or_else(Kubeconfig::read, Kubeconfig::read_from);
    let contexts = read.map(|file| file.contexts).unwrap_or_default();
    contexts.into_iter().map(|context| context.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Asked {
        let mut root = Cli::command();
        root.build();
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        asked(&root, &words)
    }

    #[test]
    fn a_word_is_completed_by_what_may_stand_there() {
        let Asked::Words(commands) = of(&["st"]) else {
            panic!("subcommands")
        };
        assert!(commands.contains(&"status".to_owned()) && commands.contains(&"simulate".to_owned()));
        assert!(!commands.iter().any(|c| c.starts_with("__")), "{commands:?}");
        for command in ["status", "explain", "abort", "promote", "history", "undo", "get"] {
            assert_eq!(of(&[command, ""]), Asked::Names(Kind::Services), "{command}");
        }
        assert_eq!(of(&["status", "-n", "shop", ""]), Asked::Names(Kind::Services));
        assert_eq!(
            of(&["status", "--namespace=shop", ""]),
            Asked::Names(Kind::Services)
        );
        assert_eq!(of(&["status", "checkout", ""]), Asked::Nothing);
        assert_eq!(of(&["status", "-n", ""]), Asked::Names(Kind::Namespaces));
        assert_eq!(of(&["status", "--context", ""]), Asked::Contexts);
        let Asked::Words(forms) = of(&["get", "-o", ""]) else {
            panic!("forms")
        };
        assert!(forms.contains(&"json".to_owned()));
        let Asked::Words(flags) = of(&["promote", "checkout", "--"]) else {
            panic!("flags")
        };
        assert!(flags.contains(&"--full".to_owned()) && flags.contains(&"--namespace".to_owned()));
        for command in ["lint", "simulate", "import", "rules"] {
            assert_eq!(of(&[command, ""]), Asked::Files, "{command}");
        }
        assert_eq!(of(&["lint", "one.yaml", ""]), Asked::Files);
        let Asked::Words(fleet) = of(&["fleet", ""]) else {
            panic!("subcommands of fleet")
        };
        assert!(fleet.contains(&"pause".to_owned()));
        assert_eq!(of(&[]), Asked::Nothing);
    }

    #[test]
    fn what_is_completed_says_of_which_cluster() {
        let of = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            let said = said(&words);
            [
                said.namespace,
                said.context,
                said.kubeconfig.map(|path| path.display().to_string()),
            ]
            .map(Option::unwrap_or_default)
        };
        assert_eq!(of(&["status", "-n", "shop", ""]), ["shop", "", ""]);
        assert_eq!(
            of(&[
                "--context=west",
                "status",
                "--namespace",
                "shop",
                "--kubeconfig",
                "k",
                ""
            ]),
            ["shop", "west", "k"]
        );
        // Its value is what is being typed.
        assert_eq!(of(&["status", "-n", "sh"]), ["", "", ""]);
    }

    #[test]
    fn each_command_has_a_manual_page() {
        let directory = std::env::temp_dir().join(format!("molt-man-{}", std::process::id()));
        let args = ManArgs {
            directory: directory.clone(),
        };
        man(&args).unwrap();
        let names = fs::read_dir(&directory).unwrap();
        let names: Vec<String> = names
            .map(|f| f.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        assert!(!names.iter().any(|name| name.contains("__")), "{names:?}");
        for command in [
            "kubectl-molt.1",
            "kubectl-molt-status.1",
            "kubectl-molt-fleet-pause.1",
        ] {
            assert!(names.iter().any(|name| name == command), "{command}: {names:?}");
            let page = fs::read_to_string(directory.join(command)).unwrap();
            assert!(
                page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"),
                "{page}"
            );
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
