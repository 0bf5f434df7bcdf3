//! Which connection a request takes.
//!
//! With HTTP/2 one connection carries many requests, which spares the API server a handshake for each
//! watch. But only so many at one moment: what comes after them waits. So watches, which last, stay off
//! the connection of the calls, and no connection of theirs is filled.
//!
//! Which version a server speaks shows in its first answer, so while none is known requests go one by
//! one. Else each that waits, a hundred where a server comes back, would make a connection of its own,
//! to find that one is enough.
use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{Request, Response, Uri, Version};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper_util::{
    client::legacy::{self, connect::Connect},
    rt::{TokioExecutor, TokioTimer},
};
use kube::client::Body;
use tokio::sync;
use tower::{BoxError, Service};

/// Watches of one connection. API servers, and proxies before them, allow 100 requests or more.
const WATCHES: usize = 64;
/// Connections for watches, the second for what the first does not take: a driver waits for 96 requests
/// at most, and follows a few objects besides.
const LINES: usize = 2;

/// How a connection is found to be dead: nothing else tells a watch, or a call before its deadline,
/// that its API server has vanished without a word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    /// With nothing heard for so long, the other side is asked whether it lives.
    pub(super) silence: Duration,
    /// It has so long for an answer.
    pub(super) patience: Duration,
}

/// Sends requests to one API server.
pub(super) struct Connections<C> {
    shared: Arc<Shared<C>>,
}

struct Shared<C> {
    /// By HTTP/1.1 or HTTP/2, as the server chooses.
    either: legacy::Client<C, Body>,
    calls: legacy::Client<C, Body>,
    watches: [Line<C>; LINES],
    /// What the server has chosen.
    version: Mutex<Option<Version>>,
    /// Whoever finds out.
    finds_out: sync::Mutex<()>,
}

/// One connection, or none yet.
struct Line<C> {
    client: legacy::Client<C, Body>,
    /// Whoever uses it has one of these.
    in_use: Arc<()>,
}

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

impl<C: Connect + Clone + Send + Sync + 'static> Connections<C> {
    /// Nothing is connected yet.
    pub(super) fn new(connector: &C, pulse: Pulse) -> Self {
        let client = |http2_only| {
            legacy::Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .http2_only(http2_only)
                .http2_keep_alive_interval(pulse.silence)
                .http2_keep_alive_timeout(pulse.patience)
                .http2_keep_alive_while_idle(true)
                .build(connector.clone())
        };
        let shared = Shared {
            either: client(false),
            calls: client(true),
            watches: [(); LINES].map(|()| Line {
                client: client(true),
                in_use: Arc::default(),
            }),
            version: Mutex::default(),
            finds_out: sync::Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }
}

impl<C: Connect + Clone + Send + Sync + 'static> Shared<C> {
    async fn send(&self, request: Request<Body>) -> Result<Answer, BoxError> {
        if self.version().is_none() {
            let _finding_out = self.finds_out.lock().await;
            if self.version().is_none() {
                let answer = self.either.request(request).await?;
                self.set_version(Some(answer.version()));
                return Ok(counted(answer, None));
            }
        }
        // Should it speak HTTP/2 by now, this client finds out by itself.
        if self.version() == Some(Version::HTTP_11) {
            return Ok(counted(self.either.request(request).await?, None));
        }
        let (client, used) = self.client_for(request.uri());
        match client.request(request).await {
            Ok(answer) => Ok(counted(answer, used)),
            Err(error) => {
                // Whoever answers next may be another, of another version.
                self.set_version(None);
                Err(error.into())
            }
        }
    }

    /// The client for a request by HTTP/2, and what shows that it is used for as long as it is there.
    fn client_for(&self, request: &Uri) -> (&legacy::Client<C, Body>, Option<Arc<()>>) {
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

    fn version(&self) -> Option<Version> {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_version(&self, version: Option<Version>) {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = version;
    }
}

/// An answer whose connection counts as used until the end of its body.
fn counted<B>(answer: Response<B>, used: Option<Arc<()>>) -> Answer
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    answer.map(|body| {
        let body = body.map_frame(move |frame| {
            // It is kept as long as the body.
            let (frame, _) = (frame, &used);
            frame
        });
        body.map_err(Into::into).boxed_unsync()
    })
}

impl<C> Clone for Connections<C> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<C: Connect + Clone + Send + Sync + 'static> Service<Request<Body>> for Connections<C> {
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        async move { shared.send(request).await }.boxed()
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
