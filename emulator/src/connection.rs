//! Serving, on connections that can be cut or sent away from within a request.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::serve::Listener;
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};

use crate::emulator::Emulator;
use crate::errors::EmulatorError;

/// How long requests in flight may still take when the server stops.
const GRACE: Duration = Duration::from_millis(300);

/// What a server may do beyond the safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServeOptions {
    /// Serve on an address that other machines can reach. Whoever reaches the emulator has it sign
    /// what they like, and may set faults and quotas.
    pub allow_remote: bool,
}

/// Serves the REST API, HTTP/1.1 and HTTP/2 with prior knowledge on one port, until `shutdown`
/// resolves. Requests that hang by then are cut off.
///
/// # Errors
/// When the listener is not on loopback, or fails.
pub async fn serve(
    emulator: Arc<Emulator>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), EmulatorError> {
    serve_with(emulator, listener, ServeOptions::default(), shutdown).await
}

/// Serves as [`serve`] does, with options.
///
/// # Errors
/// When the listener is on an address that the options do not allow, or fails.
pub async fn serve_with(
    emulator: Arc<Emulator>,
    mut listener: TcpListener,
    options: ServeOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), EmulatorError> {
    let address = listener.local_addr().map_err(EmulatorError::Listener)?;
    if !options.allow_remote {
        check_loopback(address)?;
    }
    let router = emulator.router();
    let (stop, stopping) = watch::channel(false);
    let mut open: Vec<Weak<Inner>> = Vec::new();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => report(ended),
            (stream, _) = Listener::accept(&mut listener) => {
                // Without this, small answers wait for the client's delayed ACK.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                let switch = Switch::default();
                open.retain(|inner| inner.strong_count() > 0);
                open.push(Arc::downgrade(&switch.0));
                connections.spawn(converse(stream, switch, router.clone(), stopping.clone()));
            }
        }
    }
    drop(listener);
    stop.send_replace(true);
    let ended = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    let mut ended = pin!(ended);
    if tokio::time::timeout(GRACE, &mut ended).await.is_err() {
        for inner in open.iter().filter_map(Weak::upgrade) {
            Switch(inner).cut();
        }
        ended.await;
    }
    Ok(())
}

/// One connection from its first byte to its last.
async fn converse(
    stream: TcpStream,
    switch: Switch,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let inner = Arc::clone(&switch.0);
    let stream = TokioIo::new(CuttableStream {
        stream,
        inner: Arc::clone(&inner),
    });
    let service = TowerToHyperService::new(router.layer(Extension(switch)));
    let server = auto::Builder::new(TokioExecutor::new());
    let mut connection = pin!(server.serve_connection(stream, service));
    let leave = async {
        tokio::select! {
            () = inner.retired.notified() => {}
            // An error means that the server is gone, and then it is time, too.
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = leave => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(error, "a connection broke off");
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task failed");
    }
}

/// Refuses an address that other machines could reach.
///
/// # Errors
/// [`EmulatorError::NotLoopback`].
pub fn check_loopback(address: SocketAddr) -> Result<(), EmulatorError> {
    if address.ip().to_canonical().is_loopback() {
        Ok(())
    } else {
        Err(EmulatorError::NotLoopback(address))
    }
}

/// Ends the connection that a request came in on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Switch(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    is_cut: AtomicBool,
    waker: Mutex<Option<Waker>>,
    retired: Notify,
}

impl Switch {
    /// Resets the connection: all its requests end without an answer.
    pub(crate) fn cut(&self) {
        self.0.is_cut.store(true, Ordering::SeqCst);
        if let Some(waker) = lock(&self.0.waker).take() {
            waker.wake();
        }
    }

    /// Lets the connection end in good order: what came is answered, nothing more is taken.
    pub(crate) fn retire(&self) {
        self.0.retired.notify_one();
    }
}

/// A TCP connection whose reads and writes fail once it is cut.
struct CuttableStream {
    stream: TcpStream,
    inner: Arc<Inner>,
}

impl CuttableStream {
    fn check(&self) -> io::Result<()> {
        if !self.inner.is_cut.load(Ordering::SeqCst) {
            return Ok(());
        }
        // With no linger the peer sees a reset and not an orderly end.
        self.stream.set_zero_linger()?;
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

impl AsyncRead for CuttableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // First the waker, then the look: a cut between the two still wakes.
        *lock(&self.inner.waker) = Some(context.waker().clone());
        self.check()?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for CuttableStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_are_listened_on() {
        for (address, ok) in [
            ("127.0.0.1:0", true),
            ("127.8.9.1:80", true),
            ("[::1]:80", true),
            ("[::ffff:127.0.0.1]:80", true),
            ("0.0.0.0:80", false),
            ("[::]:80", false),
            ("192.168.0.1:80", false),
        ] {
            assert_eq!(
                check_loopback(address.parse().unwrap()).is_ok(),
                ok,
                "{address}"
            );
        }
    }
}
