//! The plugin `kubectl molt`: what a person sees of a rollout, and what a person can do about it.
//!
//! - [`connect`]: to which cluster, as kubectl decides it.
//! - [`render`]: a PythonService as text; pure.
//! - `get`, `status`, `explain`, `history`, `act`, `fleet`: the commands.
//! - `live`: `status --watch`, as a screen or in lines.
//! - `dashboard`: the same in a browser, from this machine; see [`crate::dashboard`].
//! - `simulate`, `replay`: what would happen to a release; they need no cluster.
//! - [`route`]: the patch that takes the traffic away without the operator.
//! - `import`: manifests of other tools as PythonServices; needs no cluster.
//! - `lint`, `policy`: what is wrong with manifests, and the same rules for the API server; need no cluster.
//! - `shell`: completion and manual pages, from the definition of the command line.
//! - `rules`: alerts and a dashboard from a manifest; needs no cluster.

pub(crate) mod act;
pub mod connect;
mod dashboard;
pub(crate) mod explain;
pub(crate) mod failure;
mod fleet;
mod get;
mod history;
pub mod import;
mod lint;
mod live;
mod manifest;
mod policy;
pub mod render;
mod replay;
pub mod route;
mod rules;
mod shell;
mod simulate;
mod status;
mod text;
mod timeline;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use failure::Failure;
pub use text::Style;

use crate::api::v1alpha1::ActionKind;

/// Exit code of a command line that can't be understood: 2 has a meaning of its own.
const USAGE: u8 = 64;

/// Progressive delivery of Python services: see and steer rollouts.
#[derive(Debug, Parser)]
#[command(name = "kubectl-molt", bin_name = "kubectl molt", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0   done; status, explain: Healthy
  1   status, explain: RolledBack or Degraded
  2   status, explain: still moving, or waiting for a person; fleet status: paused
  3   nobody acknowledged the action within 10 seconds
  4   not found
  5   nothing was changed: no attempt is under way, or the action had expired
  6   the cluster can't be reached, or refused the request
  1, 2  lint: there are findings of the severity of --fail-on; a manifest can't be read
  64  the command line can't be understood
  65  import, rules, simulate, replay: the input can't be used";

/// Which cluster and namespace, as kubectl has it.
#[derive(Debug, Default, Args)]
struct Target {
    /// The namespace. Default: that of the context.
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// The context of the kubeconfig.
    #[arg(long, global = true)]
    context: Option<String>,
    /// The kubeconfig file. Default: `$KUBECONFIG`, then ~/.kube/config.
    #[arg(long, global = true)]
    kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List PythonServices.
    Get {
        /// Only this one.
        name: Option<String>,
        /// In every namespace.
        #[arg(short = 'A', long)]
        all_namespaces: bool,
        /// The form of the output. Default: a table.
        #[arg(short, long)]
        output: Option<Output>,
    },
    /// Show where a PythonService is, and why. The exit code says it too.
    Status {
        /// The PythonService.
        name: String,
        /// Follow it until nothing moves any more: live on a terminal, a line for each change elsewhere.
        #[arg(short, long)]
        watch: bool,
        /// The form of the output. Default: text.
        #[arg(short, long, conflicts_with = "watch")]
        output: Option<Output>,
    },
    /// Show why a PythonService is where it is, what would move it, and what you can do now. The exit code is that of
    /// status.
    Explain {
        /// The PythonService.
        name: String,
        /// The form of the output. Default: text.
        #[arg(short, long)]
        output: Option<Output>,
    },
    /// Show what became of each attempt, the newest first; of a deleted service as well.
    History(history::HistoryArgs),
    /// Take all traffic back to stable now.
    Abort {
        #[command(flatten)]
        args: ActionArgs,
        /// If no operator answers within 10 seconds, take the traffic away in the route itself.
        #[arg(long)]
        direct: bool,
    },
    /// Go past the current pause or wait for evidence; with --full to full traffic and its bake.
    Promote {
        #[command(flatten)]
        args: ActionArgs,
        /// Past all steps, pauses and waits that are left. Harm still rolls back.
        #[arg(long)]
        full: bool,
    },
    /// Try a revision again that was taken back.
    Retry(ActionArgs),
    /// Go back to the revision that was stable before, or to another, until the template changes.
    Undo {
        #[command(flatten)]
        args: ActionArgs,
        /// The revision to go back to.
        #[arg(long)]
        to_revision: Option<String>,
    },
    /// Go no further for now: the canary keeps its weight, and harm still takes it back.
    Pause(ActionArgs),
    /// Go on from a pause.
    Resume(ActionArgs),
    /// Give the stable revision new pods, one after the other; disruption budgets are heeded.
    Restart(ActionArgs),
    /// Give the Deployment that was taken over its place back; no request is lost.
    Release(ActionArgs),
    /// Go on in spite of a spent error budget or an incident of both revisions, in this attempt.
    Override(ActionArgs),
    /// Let what waits for a person go on: the migration that breaks older revisions is `--gate contract`.
    Approve {
        #[command(flatten)]
        args: ActionArgs,
        /// What waits.
        #[arg(long)]
        gate: String,
    },
    /// Have what waits for a person not done.
    Reject {
        #[command(flatten)]
        args: ActionArgs,
        /// What waits.
        #[arg(long)]
        gate: String,
    },
    /// Serve the dashboard on this machine, with your own rights, and print the link that opens it.
    Dashboard(dashboard::DashboardArgs),
    /// Stop every rollout of an operator, or let them go on: pause, resume, status.
    Fleet(fleet::FleetArgs),
    /// Try a release in virtual time: the operator's own decisions, against traffic and failures that you state.
    /// Needs no cluster.
    Simulate(simulate::SimulateArgs),
    /// Decide by recorded counts as the operator would have: from a file, or from a Prometheus. Needs no cluster.
    Replay(replay::ReplayArgs),
    /// Turn manifests of Argo Rollouts, Flagger and plain Deployments into PythonServices, and tell every field that is
    /// not the same. Needs no cluster.
    Import(import::ImportArgs),
    /// Tell what the API server, the operator and the rules of readiness would say to manifests: line, column, why it
    /// matters and how to put it right. Needs no cluster.
    Lint(lint::LintArgs),
    /// Print the rules of readiness as a ValidatingAdmissionPolicy with its binding. Needs no cluster.
    Policy(policy::PolicyArgs),
    /// Print a script that completes the command line in a shell.
    ///
    /// For `kubectl molt` itself: `kubectl molt completion kubectl > kubectl_complete-molt`, executable and on the PATH.
    Completion(shell::CompletionArgs),
    /// Write manual pages into a directory.
    Man(shell::ManArgs),
    /// Answer a shell.
    #[command(name = "__complete", hide = true)]
    Complete {
        /// The words so far; the last one is to be completed.
        #[arg(last = true)]
        words: Vec<OsString>,
    },
    /// Print the recording rules and alerts of a manifest's objectives, without a cluster.
    Rules(rules::RulesArgs),
}

#[derive(Debug, Args)]
struct ActionArgs {
    /// The PythonService.
    name: String,
    /// Why; it is kept in the record.
    #[arg(long, default_value = "")]
    reason: String,
}

/// Forms of output for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl Output {
    fn print<T: serde::Serialize>(self, value: &T) -> Result<(), Failure> {
        let text = match self {
            Self::Json => serde_json::to_string_pretty(value).map_err(|e| e.to_string()),
            Self::Yaml => serde_saphyr::to_string(value).map_err(|e| e.to_string()),
        };
        let text = text.map_err(|error| Failure::Other(format!("the answer can't be written: {error}")))?;
        text::print(&format!("{}\n", text.trim_end()));
        Ok(())
    }
}

/// Every command with its help, as a page of Markdown.
pub fn reference() -> String {
    shell::reference()
}

/// Runs the plugin with these arguments, the first being its own name.
pub async fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            // The terminal may be gone; there is nobody left to tell.
            let _ = error.print();
            return code.into();
        }
    };
    match Box::pin(execute(cli)).await {
        Ok(code) => code,
        Err(failure) => {
            // It may quote what others wrote.
            text::complain(&format!("error: {failure}"));
            failure.code().into()
        }
    }
}

async fn execute(cli: Cli) -> Result<ExitCode, Failure> {
    let Target {
        namespace,
        context,
        kubeconfig,
    } = cli.target;
    let cluster = || connect::Cluster::connect(kubeconfig.clone(), context.clone(), namespace.clone());
    let person = |cluster, action, args, to| Box::pin(act::run(cluster, action, args, to, false));
    match cli.command {
        Command::Get {
            name,
            all_namespaces,
            output,
        } => Box::pin(get::run(&cluster().await?, name, all_namespaces, output)).await,
        Command::Status {
            name, watch: true, ..
        } => Box::pin(live::run(&cluster().await?, &name, cluster)).await,
        Command::Status {
            name,
            watch: false,
            output,
        } => Box::pin(status::once(&cluster().await?, &name, output)).await,
        Command::Explain { name, output } => Box::pin(explain::run(&cluster().await?, &name, output)).await,
        Command::History(args) => Box::pin(history::run(&cluster().await?, &args)).await,
        Command::Abort { args, direct } => {
            Box::pin(act::run(
                &cluster().await?,
                ActionKind::Abort,
                &args,
                None,
                direct,
            ))
            .await
        }
        Command::Promote { args, full: false } => {
            person(&cluster().await?, ActionKind::Promote, &args, None).await
        }
        Command::Promote { args, full: true } => {
            person(&cluster().await?, ActionKind::PromoteFull, &args, None).await
        }
        Command::Retry(args) => person(&cluster().await?, ActionKind::Retry, &args, None).await,
        Command::Undo { args, to_revision } => {
            person(&cluster().await?, ActionKind::Undo, &args, to_revision).await
        }
        Command::Pause(args) => person(&cluster().await?, ActionKind::Pause, &args, None).await,
        Command::Resume(args) => person(&cluster().await?, ActionKind::Resume, &args, None).await,
        Command::Restart(args) => person(&cluster().await?, ActionKind::Restart, &args, None).await,
        Command::Release(args) => person(&cluster().await?, ActionKind::Release, &args, None).await,
        Command::Override(args) => person(&cluster().await?, ActionKind::Override, &args, None).await,
        Command::Approve { args, gate } => {
            person(&cluster().await?, ActionKind::Approve, &args, Some(gate)).await
        }
        Command::Reject { args, gate } => {
            person(&cluster().await?, ActionKind::Reject, &args, Some(gate)).await
        }
        Command::Fleet(args) => fleet::run(&cluster().await?, &args).await,
        Command::Dashboard(args) => Box::pin(dashboard::run(&args, kubeconfig, context, namespace)).await,
        Command::Simulate(args) => simulate::run(&args),
        Command::Replay(args) => Box::pin(replay::run(&args, namespace)).await,
        Command::Import(args) => import::run(&args),
        Command::Lint(args) => lint::run(&args),
        Command::Policy(args) => policy::run(&args),
        Command::Completion(args) => Ok(shell::completion(&args)),
        Command::Man(args) => shell::man(&args),
        Command::Complete { words } => {
            // What is completed may name another cluster or namespace than the shell that asks.
            let there = |said: Target| {
                connect::Cluster::connect(
                    said.kubeconfig.or(kubeconfig),
                    said.context.or(context),
                    said.namespace.or(namespace),
                )
            };
            Ok(shell::complete(&words, there).await)
        }
        Command::Rules(args) => rules::run(&args, namespace.as_deref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_may_follow_the_command() {
        let cli =
            Cli::try_parse_from(["kubectl-molt", "status", "checkout", "-n", "shop", "--watch"]).unwrap();
        assert_eq!(cli.target.namespace.as_deref(), Some("shop"));
        assert!(matches!(cli.command, Command::Status { watch: true, .. }));
    }

    #[tokio::test]
    async fn bad_input_is_told_without_any_cluster() {
        for words in [
            &["simulate", "/nowhere/checkout.yaml"][..],
            &[
                "simulate",
                "src/plugin/fixtures/checkout.yaml",
                "--scenario",
                "perhaps",
            ],
            &[
                "simulate",
                "src/plugin/fixtures/checkout.yaml",
                "--picture",
                "/nowhere/picture.svg",
            ],
            &[
                "replay",
                "src/plugin/fixtures/checkout.yaml",
                "--blocks",
                "/nowhere/blocks.jsonl",
            ],
            &[
                "replay",
                "src/plugin/fixtures/checkout.yaml",
                "--blocks",
                "Cargo.toml",
            ],
        ] {
            let words = ["kubectl-molt", "--kubeconfig", "/nowhere/config"]
                .iter()
                .chain(words);
            let code = run(words.map(OsString::from)).await;
            assert_eq!(code, ExitCode::from(65));
        }
    }

    #[tokio::test]
    async fn a_wrong_command_line_is_not_taken_for_a_moving_rollout() {
        let code = run(["kubectl-molt", "status"].map(OsString::from)).await;
        assert_eq!(code, ExitCode::from(USAGE));
    }
}
