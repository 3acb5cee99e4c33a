//! The way in of a dashboard that runs on somebody's own machine: a link that opens once, and a session that only the
//! browser knows that opened it.

use std::sync::{Mutex, PoisonError};

use super::identity::{Shown, digest, hex};

/// The link and the session.
#[derive(Debug)]
pub struct Door {
    /// Until the link was used: a digest of its word, and the session that it opens.
    link: Mutex<Option<(Shown, String)>>,
    session: Shown,
    port: u16,
}

/// What came of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The cookie to be set.
    Session(String),
    /// It is not the one, or was used before.
    No,
}

impl Door {
    /// A door with its key: both are random words. `port` is where the server listens.
    pub fn new(key: &str, session: String, port: u16) -> Self {
        Self {
            session: digest(session.as_bytes()),
            link: Mutex::new(Some((digest(key.as_bytes()), session))),
            port,
        }
    }

    /// Uses the link up, if it is the one.
    pub fn open(&self, key: &str) -> Opened {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        match link.take() {
            Some((wanted, session)) if wanted == digest(key.as_bytes()) => Opened::Session(format!(
                "{}={session}; Path=/; HttpOnly; SameSite=Strict",
                self.cookie_name()
            )),
            other => {
                *link = other;
                Opened::No
            }
        }
    }

    /// Whether a cookie holds the session.
    pub fn is_session(&self, cookie: &str) -> bool {
        digest(cookie.as_bytes()) == self.session
    }

    /// The cookie's name: browsers keep cookies of a host for all of its ports.
    pub fn cookie_name(&self) -> String {
        format!("molt-dashboard-{}", self.port)
    }

    /// Whether a request was meant for this server. A page elsewhere whose name somebody has pointed at this machine
    /// sends its own name.
    pub fn is_host(&self, host: &str) -> bool {
        let (name, port) = host.rsplit_once(':').unwrap_or((host, "80"));
        ["127.0.0.1", "localhost", "[::1]"].contains(&name) && port.parse() == Ok(self.port)
    }
}

/// A word that nobody can guess.
pub fn secret_word() -> Result<String, String> {
    let mut bytes = [0_u8; 24];
    getrandom::fill(&mut bytes).map_err(|error| format!("the system gives no random numbers: {error}"))?;
    Ok(hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_opens_once_for_one_browser() {
        let door = Door::new("key", "session".to_owned(), 8123);
        assert_eq!(door.open("other"), Opened::No);
        let Opened::Session(cookie) = door.open("key") else {
            panic!("it opens");
        };
        assert_eq!(
            cookie,
            "molt-dashboard-8123=session; Path=/; HttpOnly; SameSite=Strict"
        );
        assert_eq!(door.open("key"), Opened::No);
        assert!(door.is_session("session") && !door.is_session("key") && !door.is_session(""));
    }

    #[test]
    fn a_name_that_was_pointed_here_is_not_the_host() {
        let door = Door::new("key", "session".to_owned(), 8123);
        for host in ["127.0.0.1:8123", "localhost:8123", "[::1]:8123"] {
            assert!(door.is_host(host), "{host}");
        }
        for host in [
            "evil.example:8123",
            "127.0.0.1:80",
            "localhost",
            "127.0.0.1.evil.example:8123",
            "",
        ] {
            assert!(!door.is_host(host), "{host}");
        }
    }

    #[test]
    fn words_differ() {
        let (one, other) = (secret_word().unwrap(), secret_word().unwrap());
        assert!(one != other && one.len() == 48, "{one} {other}");
    }
}
