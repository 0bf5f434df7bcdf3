//! Serving, on connections that can be cut from within a request.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::emulator::Emulator;
use crate::errors::EmulatorError;

/// How long requests in flight may still take when the server stops.
const GRACE: Duration = Duration::from_millis(300);

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
    check_loopback(listener.local_addr().map_err(EmulatorError::Listener)?)?;
    let switches = Arc::new(Mutex::new(Vec::new()));
    let listener = CuttableListener {
        listener,
        switches: Arc::clone(&switches),
    };
    let service = emulator
        .router()
        .into_make_service_with_connect_info::<Switch>();
    let (stop, mut stopped) = watch::channel(false);
    let server = axum::serve(listener, service).with_graceful_shutdown(async move {
        // An error means that `stop` is gone, and then it is time, too.
        drop(stopped.wait_for(|stopped| *stopped).await);
    });
    let mut server = pin!(server.into_future());
    tokio::select! {
        ended = &mut server => return ended.map_err(EmulatorError::Listener),
        () = shutdown => {}
    }
    stop.send_replace(true);
    if let Ok(ended) = tokio::time::timeout(GRACE, &mut server).await {
        return ended.map_err(EmulatorError::Listener);
    }
    let open: Vec<Weak<Inner>> = std::mem::take(&mut *lock(&switches));
    for inner in open.iter().filter_map(Weak::upgrade) {
        Switch(inner).cut();
    }
    server.await.map_err(EmulatorError::Listener)
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

/// Cuts the connection that a request came in on.
#[derive(Clone, Debug)]
pub(crate) struct Switch(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    is_cut: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Switch {
    /// Resets the connection: all its requests end without an answer.
    pub(crate) fn cut(&self) {
        self.0.is_cut.store(true, Ordering::SeqCst);
        if let Some(waker) = lock(&self.0.waker).take() {
            waker.wake();
        }
    }
}

impl Connected<IncomingStream<'_, CuttableListener>> for Switch {
    fn connect_info(stream: IncomingStream<'_, CuttableListener>) -> Self {
        Self(Arc::clone(&stream.io().inner))
    }
}

struct CuttableListener {
    listener: TcpListener,
    switches: Arc<Mutex<Vec<Weak<Inner>>>>,
}

impl Listener for CuttableListener {
    type Io = CuttableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        // Without this, small answers wait for the client's delayed ACK.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let inner = Arc::new(Inner::default());
        let mut switches = lock(&self.switches);
        switches.retain(|switch| switch.strong_count() > 0);
        switches.push(Arc::downgrade(&inner));
        (CuttableStream { stream, inner }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
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
