//! A door in front of the emulator that can be shut for one pool, as when a region is away.
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    extract::{Request, State},
    http::{Method, StatusCode},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use certagent::{cas::Endpoint, run::agent::AgentOptions};
use tokio::sync::watch;

use crate::Lab;

/// What the pool behind the door does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// All is well.
    None,
    /// Every request is refused at once.
    Everything,
    /// No request is ever answered; nothing is done.
    Silence,
    /// No request for a certificate is ever answered; nothing is done.
    SilentSales,
    /// Requests for certificates are carried out, and nobody hears of it.
    Replies,
}

/// The door.
pub struct Front {
    door: Arc<Door>,
    outage: watch::Sender<Outage>,
    endpoint: String,
}

struct Door {
    pool: String,
    outage: watch::Receiver<Outage>,
    purchases: AtomicU64,
    looks: AtomicU64,
}

impl Front {
    /// Serves the laboratory's emulator behind a door for the pool of this id.
    pub async fn before(lab: &Lab, pool: &str) -> Self {
        let (outage, seen) = watch::channel(Outage::None);
        let door = Arc::new(Door {
            pool: format!("/caPools/{pool}"),
            outage: seen,
            purchases: AtomicU64::new(0),
            looks: AtomicU64::new(0),
        });
        let guard = from_fn_with_state(Arc::clone(&door), pass);
        let router = lab.emulator.router().layer(guard);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            door,
            outage,
            endpoint,
        }
    }

    /// What happens from now on. Requests that hang already stay so.
    pub fn set(&self, outage: Outage) {
        self.outage.send_replace(outage);
    }

    /// How often the pool was asked for a certificate, whatever came of it.
    pub fn purchases(&self) -> u64 {
        self.door.purchases.load(Ordering::SeqCst)
    }

    /// How often it was asked for anything else.
    pub fn looks(&self) -> u64 {
        self.door.looks.load(Ordering::SeqCst)
    }

    /// The laboratory's options, through the door.
    pub fn options(&self, lab: &Lab) -> AgentOptions {
        AgentOptions {
            endpoint: Endpoint::parse(&self.endpoint).expect("an endpoint"),
            ..lab.options()
        }
    }
}

async fn pass(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    if !request.uri().path().contains(&door.pool) {
        return next.run(request).await;
    }
    let is_purchase =
        request.method() == Method::POST && request.uri().path().ends_with("/certificates");
    let count = if is_purchase {
        &door.purchases
    } else {
        &door.looks
    };
    count.fetch_add(1, Ordering::SeqCst);
    let outage = *door.outage.borrow();
    let away = StatusCode::SERVICE_UNAVAILABLE.into_response();
    match (outage, is_purchase) {
        (Outage::Everything, _) => away,
        (Outage::Silence, _) | (Outage::SilentSales, true) => std::future::pending().await,
        (Outage::Replies, true) => {
            drop(next.run(request).await);
            away
        }
        _ => next.run(request).await,
    }
}
