//! Behind TLS of a private authority and a header.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::HeaderMap;
use axum::serve::Listener;
use futures::future::BoxFuture;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

use super::super::super::headers::{SecretData, SecretReader};
use super::*;

struct Tls {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            // A client that does not trust us breaks off.
            if let Ok((stream, address)) = self.tcp.accept().await
                && let Ok(stream) = self.acceptor.accept(stream).await
            {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// A Prometheus behind TLS that wants a token; the address, and the authority's certificate in PEM.
async fn secured(token: Arc<Mutex<String>>) -> (String, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &authority).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://localhost:{}", tcp.local_addr().unwrap().port());
    let handler = move |headers: HeaderMap| async move {
        let given = headers.get("authorization").and_then(|value| value.to_str().ok());
        if given != Some(&*token.lock().unwrap()) {
            return (StatusCode::UNAUTHORIZED, String::new());
        }
        (StatusCode::OK, vector(&[("", "", "1")]).2)
    };
    let router = Router::new().route("/prometheus/api/v1/query", post(handler));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async { axum::serve(Tls { tcp, acceptor }, router).await });
    (format!("{address}/prometheus"), authority.pem())
}

/// A Secret that holds whatever the token is, or can't be read.
struct OneSecret {
    token: Arc<Mutex<String>>,
    failure: Option<&'static str>,
    reads: AtomicUsize,
}

impl SecretReader for OneSecret {
    fn read<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<SecretData, String>> {
        assert_eq!((namespace, name), ("shop", "prom-token"));
        self.reads.fetch_add(1, Ordering::Relaxed);
        let value = self.token.lock().unwrap().clone().into_bytes();
        Box::pin(async move {
            match self.failure {
                Some(failure) => Err(failure.to_owned()),
                None => Ok(vec![("Authorization".to_owned(), value)]),
            }
        })
    }
}

fn asking(address: &str, secret: Option<&str>) -> MeasureRequest {
    let condition = super::super::super::conditions::PromqlQuery::parse("c", "a{$selector}").unwrap();
    let condition = super::super::super::ConditionQuery::Promql(condition);
    let mut request = MeasureRequest {
        conditions: vec![condition],
        ..request(Vec::new())
    };
    request.source.address = address.to_owned();
    request.source.is_operators = false;
    request.source.headers_from = secret.map(str::to_owned);
    request
}

fn token(text: &str) -> Arc<Mutex<String>> {
    Arc::new(Mutex::new(text.to_owned()))
}

fn secret(token: &Arc<Mutex<String>>, failure: Option<&'static str>) -> Arc<OneSecret> {
    Arc::new(OneSecret {
        token: Arc::clone(token),
        failure,
        reads: AtomicUsize::new(0),
    })
}

fn prometheus(secrets: Arc<OneSecret>, file: Option<std::path::PathBuf>, ca: Option<&str>) -> Prometheus {
    let headers = Arc::new(Headers::new(Some(secrets), file));
    let http = http::client(ca.map(str::as_bytes)).unwrap();
    Prometheus::new(Metrics::new("test"), TimeLimits::default(), http, headers)
}

#[tokio::test]
async fn headers_of_a_secret_and_a_private_authority_open_the_door_and_a_renewed_token_keeps_it_open() {
    let token = token("Bearer hush");
    let (address, ca) = secured(Arc::clone(&token)).await;
    let secrets = secret(&token, None);
    let prometheus = prometheus(Arc::clone(&secrets), None, Some(&ca));
    let request = asking(&address, Some("prom-token"));
    let measured = prometheus.measure(&request).await;
    assert_eq!(measured.problems, []);
    assert_eq!(measured.measurement.conditions[0].value, Ok(1.0));
    prometheus.measure(&request).await;
    assert_eq!(secrets.reads.load(Ordering::Relaxed), 1, "it is kept");

    "Bearer new".clone_into(&mut token.lock().unwrap());
    let measured = prometheus.measure(&request).await;
    assert_eq!(
        measured.problems,
        [],
        "a renewed token is read once it is asked for"
    );
    assert_eq!(secrets.reads.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_wrong_or_missing_token_is_named_and_never_shown() {
    let (address, ca) = secured(token("Bearer right")).await;
    let wrong = prometheus(secret(&token("Bearer hush"), None), None, Some(&ca));
    let measured = wrong.measure(&asking(&address, Some("prom-token"))).await;
    assert_eq!(reasons(&measured), ["PrometheusForbidden"]);
    assert!(measured.problems[0].message.contains("headersFrom"));
    assert!(!format!("{measured:?}").contains("hush"));

    let failure = "the operator may not read Secret shop/prom-token";
    let missing = prometheus(secret(&token("x"), Some(failure)), None, Some(&ca));
    let measured = missing.measure(&asking(&address, Some("prom-token"))).await;
    assert_eq!(reasons(&measured), ["PrometheusHeadersUnusable"]);
    assert!(measured.problems[0].message.contains(failure));
}

#[tokio::test]
async fn an_authority_that_is_not_known_is_not_trusted() {
    let token = token("Bearer hush");
    let (address, _) = secured(Arc::clone(&token)).await;
    let (_, other) = secured(Arc::clone(&token)).await;
    for ca in [None, Some(other.as_str())] {
        let prometheus = prometheus(secret(&token, None), None, ca);
        let measured = prometheus.measure(&asking(&address, Some("prom-token"))).await;
        assert_eq!(reasons(&measured), ["PrometheusUnreachable"]);
        let message = &measured.problems[0].message;
        assert!(message.contains("--prometheus-ca-file"), "{message}");
    }
    let no_pem = http::client(Some(b"hello"));
    assert!(no_pem.unwrap_err().contains("--prometheus-ca-file"));
}

#[tokio::test]
async fn the_operators_headers_go_to_the_operators_address_alone() {
    let token = token("Bearer hush");
    let (address, ca) = secured(Arc::clone(&token)).await;
    let file = std::env::temp_dir().join(format!("molt-secured-{}", std::process::id()));
    std::fs::write(&file, "Authorization: Bearer hush\n").unwrap();
    let prometheus = prometheus(secret(&token, None), Some(file.clone()), Some(&ca));
    let mut request = asking(&address, None);
    let measured = prometheus.measure(&request).await;
    assert_eq!(
        reasons(&measured),
        ["PrometheusForbidden"],
        "an address of a spec gets none"
    );
    request.source.is_operators = true;
    assert_eq!(prometheus.measure(&request).await.problems, []);
    std::fs::remove_file(file).unwrap();
}
