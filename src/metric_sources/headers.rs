//! Headers that a source of measurements asks for, credentials among them.
//!
//! They come from a Secret in the service's namespace, or, for the operator's own Prometheus, from a file.
//! Values are never shown: not in messages, not in logs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Mutex as AsyncMutex;

/// How long headers are used without reading them again.
const LASTS: Duration = Duration::from_mins(1);
/// How long a failure to read them is repeated without trying again.
const FAILURE_LASTS: Duration = Duration::from_secs(5);
/// The shortest time between two readings because a server refuses the headers.
const REFUSED_AGAIN: Duration = Duration::from_secs(5);
/// Header values of one source, in bytes, at most.
const MAX_VALUE: usize = 16 << 10;

/// Where headers come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HeadersFrom {
    /// The operator's own file, if it has one.
    Operator,
    /// A Secret whose keys are header names.
    Secret {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// Keys and values of a Secret.
pub type SecretData = Vec<(String, Vec<u8>)>;

/// Reads the data of Secrets.
pub trait SecretReader: Send + Sync {
    /// The keys and values of a Secret. The error says what is wrong and how to fix it.
    fn read<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<SecretData, String>>;
}

/// Headers by where they come from, kept for a short time.
pub struct Headers {
    secrets: Option<Arc<dyn SecretReader>>,
    file: Option<PathBuf>,
    kept: Mutex<HashMap<HeadersFrom, Arc<AsyncMutex<Option<Kept>>>>>,
}

struct Kept {
    read_at: Instant,
    refused_at: Option<Instant>,
    headers: Result<HeaderMap, String>,
}

impl Kept {
    fn is_fresh(&self) -> bool {
        let lasts = if self.headers.is_ok() {
            LASTS
        } else {
            FAILURE_LASTS
        };
        self.read_at.elapsed() < lasts
    }
}

impl Headers {
    /// Without `secrets` none can be read; without `file` the operator has no headers of its own.
    pub fn new(secrets: Option<Arc<dyn SecretReader>>, file: Option<PathBuf>) -> Self {
        Self {
            secrets,
            file,
            kept: Mutex::default(),
        }
    }

    /// The headers; the error says what is wrong and how to fix it.
    pub async fn of(&self, from: &HeadersFrom) -> Result<HeaderMap, String> {
        let slot = self.slot(from);
        let mut slot = slot.lock().await;
        if let Some(kept) = slot.as_ref().filter(|kept| kept.is_fresh()) {
            return kept.headers.clone();
        }
        self.read_into(&mut slot, from, None).await
    }

    /// The headers as they are now, after a server has refused `used`; `None` when there are no others.
    pub async fn after_refusal(&self, from: &HeadersFrom, used: &HeaderMap) -> Option<HeaderMap> {
        let slot = self.slot(from);
        let mut slot = slot.lock().await;
        let refused_at = slot.as_ref().and_then(|kept| kept.refused_at);
        let others = |headers: &Result<HeaderMap, String>| headers.clone().ok().filter(|h| h != used);
        if let Some(others) = slot.as_ref().and_then(|kept| others(&kept.headers)) {
            return Some(others);
        }
        if refused_at.is_some_and(|at| at.elapsed() < REFUSED_AGAIN) {
            return None;
        }
        others(&self.read_into(&mut slot, from, Some(Instant::now())).await)
    }

    fn slot(&self, from: &HeadersFrom) -> Arc<AsyncMutex<Option<Kept>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = kept.get(from) {
            return Arc::clone(slot);
        }
        // What nobody has asked for lately goes, with the values it holds.
        kept.retain(|_, slot| {
            slot.try_lock()
                .map_or(true, |slot| slot.as_ref().is_none_or(Kept::is_fresh))
        });
        Arc::clone(kept.entry(from.clone()).or_default())
    }

    async fn read_into(
        &self,
        slot: &mut Option<Kept>,
        from: &HeadersFrom,
        refused_at: Option<Instant>,
    ) -> Result<HeaderMap, String> {
        let headers = self.read(from).await;
        *slot = Some(Kept {
            read_at: Instant::now(),
            refused_at,
            headers: headers.clone(),
        });
        headers
    }

    async fn read(&self, from: &HeadersFrom) -> Result<HeaderMap, String> {
        match from {
            HeadersFrom::Operator => self
                .file
                .as_deref()
                .map_or_else(|| Ok(HeaderMap::new()), read_file),
            HeadersFrom::Secret { namespace, name } => {
                let Some(secrets) = &self.secrets else {
                    return Err("Secrets can't be read here".to_owned());
                };
                let entries = secrets.read(namespace, name).await?;
                from_entries(&format!("Secret {namespace}/{name}"), entries)
            }
        }
    }
}

/// Reads headers from a file, one `Name: value` a line; empty lines and those that begin with `#` are skipped.
pub fn read_file(path: &Path) -> Result<HeaderMap, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!("the file {shown} with the headers for Prometheus can't be read: {error}")
    })?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let mut entries = Vec::new();
    for (number, line) in lines {
        let Some((name, value)) = line.split_once(':') else {
            // The line itself may be a token.
            return Err(format!(
                "line {} of {shown} is no header: write Name: value",
                number + 1
            ));
        };
        entries.push((name.trim().to_owned(), value.trim().as_bytes().to_vec()));
    }
    from_entries(&shown.to_string(), entries)
}

/// Headers that say how the request itself is sent.
const RESERVED: [&str; 8] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
];

/// Headers whose names are the keys of a Secret; the error names `source` and shows no value.
pub fn from_entries(source: &str, entries: SecretData) -> Result<HeaderMap, String> {
    if entries.is_empty() {
        return Err(format!(
            "{source} has no headers: write each header's name as a key, with its value"
        ));
    }
    let mut headers = HeaderMap::new();
    for (key, value) in entries {
        let name = HeaderName::from_bytes(key.as_bytes())
            .ok()
            .filter(|name| !RESERVED.contains(&name.as_str()))
            .ok_or_else(|| {
                format!("{key:?} in {source} is no header that can be set: write a header's name, such as Authorization")
            })?;
        // Files end with a line break, which many tools put into Secrets too.
        let value = value.trim_ascii();
        let mut value = HeaderValue::from_bytes(value)
            .ok()
            .filter(|value| !value.is_empty() && value.len() <= MAX_VALUE)
            .ok_or_else(|| {
                format!("the value of {key:?} in {source} can't be a header's: it is empty, too long, or has line breaks or control characters within")
            })?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn parse(entries: &[(&str, &str)]) -> Result<HeaderMap, String> {
        let entries = entries
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec()));
        from_entries("Secret shop/prom", entries.collect())
    }

    #[test]
    fn keys_are_names_and_values_are_never_shown() {
        let headers = parse(&[("Authorization", "Bearer hush\n"), ("X-Scope-OrgID", "shop")]).unwrap();
        assert_eq!(headers["authorization"], "Bearer hush");
        assert_eq!(headers["x-scope-orgid"], "shop");
        assert!(!format!("{headers:?}").contains("hush"));
        for (key, value, part) in [
            (
                "Host",
                "hush",
                "\"Host\" in Secret shop/prom is no header that can be set",
            ),
            ("a b", "hush", "\"a b\" in Secret shop/prom is no header"),
            (
                "X-A",
                "hu\nsh",
                "the value of \"X-A\" in Secret shop/prom can't be",
            ),
            ("X-A", " \n", "the value of \"X-A\" in Secret shop/prom can't be"),
        ] {
            let error = parse(&[(key, value)]).unwrap_err();
            assert!(error.contains(part) && !error.contains("hu"), "{error}");
        }
        assert!(parse(&[]).unwrap_err().contains("has no headers"));
    }

    #[test]
    fn a_file_has_a_header_a_line() {
        let dir = std::env::temp_dir().join(format!("molt-headers-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("headers");
        std::fs::write(
            &path,
            "# ours\nAuthorization: Bearer a:b\n\nX-Scope-OrgID: shop\n",
        )
        .unwrap();
        let headers = read_file(&path).unwrap();
        assert_eq!(headers["authorization"], "Bearer a:b");
        std::fs::write(&path, "Authorization: x\nhush").unwrap();
        let error = read_file(&path).unwrap_err();
        assert!(error.contains("line 2 of") && !error.contains("hush"), "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(read_file(&path).unwrap_err().contains("can't be read"));
    }

    #[derive(Default)]
    struct Reads(AtomicUsize);

    impl SecretReader for Reads {
        fn read<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<SecretData, String>> {
            let n = self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move { Ok(vec![("X-N".to_owned(), n.to_string().into_bytes())]) })
        }
    }

    #[tokio::test]
    async fn they_are_kept_and_read_again_once_they_are_refused() {
        let reads = Arc::new(Reads::default());
        let headers = Headers::new(Some(reads.clone()), None);
        let from = HeadersFrom::Secret {
            namespace: "shop".into(),
            name: "prom".into(),
        };
        let first = headers.of(&from).await.unwrap();
        assert_eq!(headers.of(&from).await.unwrap(), first);
        assert_eq!(reads.0.load(Ordering::Relaxed), 1);
        let second = headers.after_refusal(&from, &first).await.unwrap();
        assert_ne!(second, first);
        // Another query that used the first ones gets these without another reading.
        assert_eq!(headers.after_refusal(&from, &first).await, Some(second.clone()));
        assert_eq!(
            headers.after_refusal(&from, &second).await,
            None,
            "not at once again"
        );
        assert_eq!(reads.0.load(Ordering::Relaxed), 2);
        assert_eq!(headers.of(&HeadersFrom::Operator).await, Ok(HeaderMap::new()));
    }
}
