//! The connections of a server.
use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use certagent_svid::leaf;
use futures_core::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use super::{ALPN, HANDSHAKE, PeerInfo};
use crate::{Authorize, Credentials, Error, Event, peer_certificate};

/// How many handshakes go on at once. Who comes then waits in the listener's queue.
const HANDSHAKES: usize = 1024;
/// How long nothing is accepted when the system has no more descriptors.
const EXHAUSTED: std::time::Duration = std::time::Duration::from_millis(100);

/// The connections of a tonic server whose peers are verified and authorised, for
/// `serve_with_incoming`. Made by [`Credentials::tonic_incoming`].
///
/// Handshakes go on beside each other, so a slow peer holds up nobody, and each has 10 seconds. One
/// that fails is no error of the stream; [`Event::HandshakeFailed`] tells of it.
pub struct Incoming {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    credentials: Credentials,
    handshakes: JoinSet<Result<Connection, Failure>>,
    pause: Option<Pin<Box<Sleep>>>,
}

struct Failure {
    remote: SocketAddr,
    reason: String,
}

impl Credentials {
    /// The connections of a tonic server; `authorize` says which clients are let in. The listener
    /// must be in the runtime that serves.
    pub fn tonic_incoming(
        &self,
        listener: TcpListener,
        authorize: impl Authorize,
    ) -> Result<Incoming, Error> {
        let mut config = self.server_config(authorize)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Incoming {
            listener,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            credentials: self.clone(),
            handshakes: JoinSet::new(),
            pause: None,
        })
    }
}

impl Incoming {
    /// The listener's address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Begins the handshakes of all who wait.
    fn accept(&mut self, context: &mut Context<'_>) {
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(context).is_pending() {
                return;
            }
            self.pause = None;
        }
        while self.handshakes.len() < HANDSHAKES {
            match self.listener.poll_accept(context) {
                Poll::Ready(Ok((stream, remote))) => {
                    let handshake = handshake(self.acceptor.clone(), stream, remote);
                    self.handshakes.spawn(handshake);
                }
                // A peer that was gone before it was accepted, or no descriptor left. The next try
                // tells, a moment later.
                Poll::Ready(Err(_not_this_one)) => {
                    let mut pause = Box::pin(sleep(EXHAUSTED));
                    if pause.as_mut().poll(context).is_pending() {
                        self.pause = Some(pause);
                        return;
                    }
                }
                Poll::Pending => return,
            }
        }
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    remote: SocketAddr,
) -> Result<Connection, Failure> {
    let failed = |reason: String| Failure { remote, reason };
    stream
        .set_nodelay(true)
        .map_err(|error| failed(error.to_string()))?;
    let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_elapsed) => {
            return Err(failed(format!(
                "the peer did not finish its handshake in {} s",
                HANDSHAKE.as_secs()
            )));
        }
    };
    let certificate = peer_certificate(stream.get_ref().1)
        .ok_or_else(|| failed("the peer has no certificate".to_owned()))?;
    let spiffe_id = leaf::spiffe_id(&certificate).map_err(|error| failed(error.to_string()))?;
    Ok(Connection {
        stream,
        peer: PeerInfo {
            spiffe_id,
            certificate: Arc::new(certificate),
            remote,
        },
    })
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.accept(context);
        while let Poll::Ready(Some(done)) = self.handshakes.poll_join_next(context) {
            match done {
                Ok(Ok(connection)) => return Poll::Ready(Some(Ok(connection))),
                Ok(Err(Failure { remote, reason })) => {
                    self.credentials.shared().tell([Event::HandshakeFailed {
                        remote: Some(remote),
                        reason,
                    }]);
                }
                // Nobody aborts them while the stream lives.
                Err(_aborted) => {}
            }
            // There is room for another.
            self.accept(context);
        }
        Poll::Pending
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("listener", &self.listener)
            .field("credentials", &self.credentials)
            .field("handshakes", &self.handshakes.len())
            .finish_non_exhaustive()
    }
}

/// A connection whose peer is verified and authorised.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: PeerInfo,
}

impl Connection {
    /// Who is at the other end.
    pub fn peer(&self) -> &PeerInfo {
        &self.peer
    }
}

impl Connected for Connection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
