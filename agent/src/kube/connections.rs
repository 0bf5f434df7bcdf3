//! Which connection a request takes.
//!
//! With HTTP/2 one connection carries them all, which spares the API server a handshake for each watch.
//! But only so many at one moment: what comes after them waits. So watches, which last, stay off the
//! connection of the calls, and each of theirs takes few of them.
use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, TryFutureExt as _, future::BoxFuture};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper_util::{
    client::legacy::{self, connect::Connect},
    rt::{TokioExecutor, TokioTimer},
};
use kube::client::Body;
use tower::{BoxError, Service};

/// Watches of one connection: API servers allow 100 requests or more, and proxies before them too.
const WATCHES: usize = 64;
/// Connections for watches, each made when those before it are full. What is beyond all of them shares.
const LINES: usize = 8;

/// How a connection is found to be dead: nothing else would tell a watch that its API server has
/// vanished without a word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    /// With nothing heard for so long, the other side is asked whether it lives.
    pub(super) silence: Duration,
    /// It has so long for an answer.
    pub(super) patience: Duration,
}

/// Sends requests to one API server.
pub(super) struct Connections<C> {
    calls: legacy::Client<C, Body>,
    watches: Arc<[Line<C>]>,
}

/// One connection, or none yet.
struct Line<C> {
    client: legacy::Client<C, Body>,
    /// Whoever uses it has one of these.
    in_use: Arc<()>,
}

impl<C: Connect + Clone + Send + Sync + 'static> Connections<C> {
    /// Nothing is connected yet.
    pub(super) fn new(connector: &C, pulse: Pulse) -> Self {
        let client = || {
            legacy::Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .http2_keep_alive_interval(pulse.silence)
                .http2_keep_alive_timeout(pulse.patience)
                .http2_keep_alive_while_idle(true)
                .build(connector.clone())
        };
        let line = |_number| Line {
            client: client(),
            in_use: Arc::default(),
        };
        Self {
            calls: client(),
            watches: (0..LINES).map(line).collect(),
        }
    }

    /// The client for a request, and what shows that it is used for as long as it is there.
    fn of(&self, request: &Uri) -> (&legacy::Client<C, Body>, Option<Arc<()>>) {
        if !is_watch(request) {
            return (&self.calls, None);
        }
        let users = |line: &&Line<C>| Arc::strong_count(&line.in_use) - 1;
        let free = self.watches.iter().find(|line| users(line) < WATCHES);
        let line = free.or_else(|| self.watches.iter().min_by_key(users));
        line.map_or((&self.calls, None), |line| {
            (&line.client, Some(Arc::clone(&line.in_use)))
        })
    }
}

impl<C> Clone for Connections<C>
where
    C: Clone,
{
    fn clone(&self) -> Self {
        Self {
            calls: self.calls.clone(),
            watches: Arc::clone(&self.watches),
        }
    }
}

impl<C: Connect + Clone + Send + Sync + 'static> Service<Request<Body>> for Connections<C> {
    type Response = Response<UnsyncBoxBody<Bytes, BoxError>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (client, used) = self.of(request.uri());
        let answer = client.request(request).map_err(BoxError::from);
        let answer = answer.map_ok(|response| {
            response.map(|body| {
                let body = body.map_frame(move |frame| {
                    // It is kept as long as the body.
                    let (frame, _) = (frame, &used);
                    frame
                });
                body.map_err(BoxError::from).boxed_unsync()
            })
        });
        answer.boxed()
    }
}

/// It asks for a stream of changes.
fn is_watch(request: &Uri) -> bool {
    let query = request.query().unwrap_or_default();
    query.split('&').any(|pair| pair == "watch=true")
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
