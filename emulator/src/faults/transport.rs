//! Faults of the transport at work: before the work is done, and when its answer goes out.

use std::future::pending;
use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::response::Response;

use super::Fault;
use crate::connection::Switch;
use crate::rest::{html, json_bytes, refusal};

/// Length of a piece of a slow body, in bytes.
const PIECE: usize = 512;

/// How the answer of the work goes out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Delivery {
    Whole,
    /// In pieces, each after this time.
    Slow(Duration),
    /// As the last one of its connection.
    Last,
    /// Not at all: the request ends.
    Lost,
    /// Not at all: the connection is reset.
    Reset,
}

/// Lets `fault` befall the request of `parts`: either that is its answer, or the work comes next and
/// its answer goes out as told.
pub(crate) async fn meet(fault: Option<Fault>, parts: &Parts) -> ControlFlow<Response, Delivery> {
    let Some(fault) = fault else {
        return ControlFlow::Continue(Delivery::Whole);
    };
    match fault {
        Fault::Error { error, retry_after } => ControlFlow::Break(refusal(&error, retry_after)),
        Fault::Html { status } => ControlFlow::Break(html(status)),
        Fault::HugeBody { bytes } => {
            ControlFlow::Break(json_bytes(StatusCode::OK, vec![b' '; bytes]))
        }
        Fault::Hang => pending().await,
        Fault::CloseBefore => ControlFlow::Break(reset(parts).await),
        Fault::CloseAfter => ControlFlow::Continue(Delivery::Reset),
        Fault::LostReply => ControlFlow::Continue(Delivery::Lost),
        Fault::SlowBody { chunk_delay } => ControlFlow::Continue(Delivery::Slow(chunk_delay)),
        Fault::Latency(delay) => {
            tokio::time::sleep(delay).await;
            ControlFlow::Continue(Delivery::Whole)
        }
        Fault::GoAway => {
            if let Some(switch) = parts.extensions.get::<Switch>() {
                switch.retire();
            }
            ControlFlow::Continue(Delivery::Last)
        }
        // Not the transport's: the book keeps these for the signing.
        Fault::Certificate(_) => ControlFlow::Continue(Delivery::Whole),
    }
}

impl Delivery {
    /// The answer to the request of `parts` as it goes out.
    pub(crate) async fn of(self, mut answer: Response, parts: &Parts) -> Response {
        match self {
            Self::Whole => answer,
            Self::Slow(delay) => slow(answer, delay).await,
            Self::Last => {
                if parts.version < Version::HTTP_2 {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(header::CONNECTION, close);
                }
                answer
            }
            Self::Lost => broken(),
            Self::Reset => reset(parts).await,
        }
    }
}

/// Ends the connection without an answer.
async fn reset(parts: &Parts) -> Response {
    match parts.extensions.get::<Switch>() {
        Some(switch) => {
            switch.cut();
            pending().await
        }
        None => broken(),
    }
}

/// An answer whose body fails at once: nothing of it goes out, and the request ends. Over HTTP/1 the
/// connection ends with it.
fn broken() -> Response {
    let broken = futures::stream::once(async { Err::<Bytes, _>(io::Error::other("cut off")) });
    Response::new(Body::from_stream(broken))
}

async fn slow(answer: Response, delay: Duration) -> Response {
    let (head, body) = answer.into_parts();
    // The emulator's own answers are in memory: collecting one cannot fail.
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let pieces = futures::stream::unfold(bytes, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(delay).await;
        let piece = rest.split_to(rest.len().min(PIECE));
        Some((Ok::<_, io::Error>(piece), rest))
    });
    Response::from_parts(head, Body::from_stream(pieces))
}
