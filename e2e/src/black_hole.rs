//! An address that takes every connection and never answers, as a server does that hangs.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;

/// It listens until it is dropped.
pub struct BlackHole {
    /// Its URL, as pods reach it.
    pub url: String,
    taken: Arc<AtomicUsize>,
    listens: tokio::task::JoinHandle<()>,
}

impl BlackHole {
    /// Opens one on this machine, at the address by which `neighbour` reaches it.
    pub async fn open(neighbour: IpAddr) -> Self {
        // Nothing is sent: the kernel chooses the address from which it would be.
        let address = UdpSocket::bind("0.0.0.0:0")
            .and_then(|socket| {
                socket.connect((neighbour, 80))?;
                socket.local_addr()
            })
            .expect("there is a way to the neighbour");
        let listener = TcpListener::bind((address.ip(), 0))
            .await
            .expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it listens"));
        let taken = Arc::new(AtomicUsize::new(0));
        let count = taken.clone();
        let listens = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                held.push(connection);
                count.fetch_add(1, Ordering::Release);
            }
        });
        Self { url, taken, listens }
    }

    /// Connections that were taken so far.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        self.listens.abort();
    }
}
