//! The plugin: `kubectl molt`.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    molt::plugin::run(std::env::args_os()).await
}
