//! `kubectl molt status --watch`: a live view on a terminal, a line for each change elsewhere.
//!
//! - [`feed`]: what happens to the service, for as long as somebody looks, through losses of the API server.
//! - [`model`]: what has been seen so far; pure.
//! - [`draw`]: the model as a screen; pure.

mod draw;
mod feed;
mod model;
mod screen;

use std::future::Future;
use std::process::ExitCode;

use jiff::Timestamp;
use tokio::sync::mpsc;

use self::feed::{News, feed};
use self::model::Model;
use super::connect::Cluster;
use super::render::line;
use super::status::{exit_code, moves};
use super::text::{self, Style};
use super::{Failure, render::render};
use crate::api::v1alpha1::PythonService;

/// News that may wait while a screen is drawn.
const WAITING: usize = 32;

/// Follows the service until nothing moves: as a screen where a person can look at one, else a line for each change.
/// `again` connects anew, where the API server no longer takes what a person signed in with.
pub(super) async fn run<C>(cluster: &Cluster, name: &str, again: impl Fn() -> C) -> Result<ExitCode, Failure>
where
    C: Future<Output = Result<Cluster, Failure>>,
{
    // Says what there is when there is no such service; a watch would wait for it in silence.
    let service = cluster.service(name).await?;
    let (sender, news) = mpsc::channel(WAITING);
    let follow = feed(cluster.clone(), name.to_owned(), again, sender);
    let show = async {
        if screen::is_possible() {
            on_screen(service, news).await
        } else {
            in_lines(service, news).await
        }
    };
    tokio::select! {
        biased;
        shown = show => shown,
        // It ends once it has told that the service is gone, and `show` ends with that.
        () = async { follow.await; std::future::pending().await } => unreachable!("it is pending"),
    }
}

fn deleted(service: &PythonService) -> Failure {
    let name = kube::ResourceExt::name_any(service);
    Failure::NotFound(format!("PythonService {name} was deleted"))
}

/// One line for each change, with its time.
async fn in_lines(mut service: PythonService, mut news: mpsc::Receiver<News>) -> Result<ExitCode, Failure> {
    let mut last = String::new();
    let mut no_contact = false;
    loop {
        let shown = line(&service);
        if shown != last {
            text::print(&format!("{} {shown}\n", Timestamp::now().strftime("%H:%M:%SZ")));
            last = shown;
        }
        if !moves(&service) {
            return Ok(exit_code(&service));
        }
        match news.recv().await {
            Some(News::Service(newer)) => {
                if std::mem::take(&mut no_contact) {
                    text::complain("the API server answers again");
                }
                service = *newer;
            }
            Some(News::Lost(why)) => {
                if !std::mem::replace(&mut no_contact, true) {
                    text::complain(&format!(
                        "{why}; what was shown last may be old, and it is tried again"
                    ));
                }
            }
            Some(News::Record(_)) => {}
            Some(News::Deleted) | None => return Err(deleted(&service)),
        }
    }
}

/// A screen that is drawn anew with each change, each key and each second.
async fn on_screen(service: PythonService, mut news: mpsc::Receiver<News>) -> Result<ExitCode, Failure> {
    let mut model = Model::new(service, Timestamp::now());
    let mut screen = screen::Screen::open()?;
    let end = loop {
        screen.draw(&model)?;
        if !moves(&model.service) {
            break Ok(exit_code(&model.service));
        }
        tokio::select! {
            told = news.recv() => match told {
                Some(told) => {
                    if model.learn(told, Timestamp::now()).is_break() {
                        break Err(deleted(&model.service));
                    }
                }
                None => break Err(deleted(&model.service)),
            },
            input = screen.input() => match input {
                screen::Input::Key(key) => model.press(key),
                screen::Input::Look => {}
                screen::Input::Quit => break Ok(exit_code(&model.service)),
                screen::Input::Signal(number) => break Ok(ExitCode::from(128 + number)),
            },
        }
        model.now = Timestamp::now();
    };
    drop(screen);
    // What was seen last stays to be read.
    text::print(&render(&model.service, model.now, Style::of_stdout()));
    end
}
