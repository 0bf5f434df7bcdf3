//! Applications with `certagent-credentials` on two real volumes: mutual TLS while both rotate at
//! full speed.
//!
//! Each rotation is one step of the clock into the renewal window, so the old certificate has still
//! to be good for whoever took it just before. As in `torture.rs` of the process tests, the clock is
//! not stepped again while a handshake goes on that began before the last step.
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use certagent::clock::Clock as _;
use certagent_credentials::{Certificate, Credentials, Health, authorize, peer_id};
use certagent_tests::{GUARD, Lab, TRUST_DOMAIN, until};
use rustls::{
    ClientConfig, ClientConnection, ServerConfig, ServerConnection,
    crypto::aws_lc_rs::default_provider, pki_types::ServerName,
};

/// Past every draw of a renewal (30 s to 36 s after the issue), well before the end (59 s).
const STEP: i64 = 37;
/// Threads that shake hands.
const THREADS: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_handshake_fails_while_both_sides_rotate() {
    shake_hands(200, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "10^5 handshakes, for a release build"]
async fn no_handshake_of_a_hundred_thousand_fails_while_both_sides_rotate() {
    shake_hands(100_000, 500).await;
}

#[derive(Default)]
struct Seen {
    steps: AtomicU64,
    enough: AtomicBool,
    done: AtomicU64,
    /// For each thread, 1 + the number of steps at which its handshake began; 0 between two.
    began_at: [AtomicU64; THREADS],
    serials: Mutex<BTreeSet<String>>,
}

/// At least so many handshakes during at least so many rotations of each side.
async fn shake_hands(handshakes: u64, rotations: u64) {
    let lab = Lab::new().await;
    lab.write_workload("client");
    lab.write_workload("server");
    let agent = lab.agent().await;
    let ready = |statuses: &[_]| statuses.len() == 2 && certagent_tests::all_ready(statuses);
    until(&agent, ready).await;
    let [server, client] = ["server", "client"].map(|name| open(&lab, name));
    let configs = (
        Arc::new(server.server_config(only("client")).unwrap()),
        Arc::new(client.client_config(only("server")).unwrap()),
    );
    let (began, seen) = (Instant::now(), Arc::new(Seen::default()));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (seen, configs) = (Arc::clone(&seen), configs.clone());
            std::thread::spawn(move || seen.run(thread, &configs))
        })
        .collect();

    let mut step = 0;
    while seen.done.load(Ordering::SeqCst) < handshakes || step < rotations {
        seen.wait_for_old_handshakes(step);
        let [mut one, mut two] = [&server, &client].map(Credentials::subscribe);
        step += 1;
        lab.step(STEP);
        until(&agent, |statuses| {
            statuses.iter().all(|it| it.rotations == step)
        })
        .await;
        // The thread of the credentials hears of the swap by itself.
        for changes in [&mut one, &mut two] {
            let changed = tokio::time::timeout(GUARD, changes.changed()).await;
            changed.unwrap().unwrap();
        }
        // Only now: a handshake that began before may still have the certificate of before.
        seen.steps.store(step, Ordering::SeqCst);
        if threads.iter().any(std::thread::JoinHandle::is_finished) {
            break;
        }
    }
    seen.enough.store(true, Ordering::SeqCst);
    for thread in threads {
        thread.join().expect("every handshake succeeds");
    }
    for credentials in [&server, &client] {
        assert!(matches!(credentials.health(), Health::Fresh));
    }
    agent.stop().await;
    let serials = seen.serials.lock().unwrap().len() as u64;
    #[expect(clippy::print_stdout, reason = "the figures are for people")]
    {
        println!(
            "{} handshakes, 0 failed, {step} rotations of each side, {serials} certificates seen, in {:.1} s",
            seen.done.load(Ordering::SeqCst),
            began.elapsed().as_secs_f64()
        );
    }
    assert!(seen.done.load(Ordering::SeqCst) >= handshakes);
    assert!(serials > rotations, "new certificates are on the wire");
}

fn open(lab: &Lab, name: &str) -> Credentials {
    let clock = lab.clock.clone();
    Credentials::builder(lab.volume(name))
        .clock(move || clock.now())
        .crypto_provider(Arc::new(default_provider()))
        .open()
        .unwrap()
}

fn id(name: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/default/sa/{name}")
}

fn only(name: &str) -> authorize::Rule {
    authorize::id(id(name)).unwrap()
}

impl Seen {
    fn run(&self, thread: usize, configs: &(Arc<ServerConfig>, Arc<ClientConfig>)) {
        while !self.enough.load(Ordering::SeqCst) {
            let steps = self.steps.load(Ordering::SeqCst);
            self.began_at[thread].store(steps + 1, Ordering::SeqCst);
            let (server, client) = handshake(configs);
            self.began_at[thread].store(0, Ordering::SeqCst);
            assert_eq!(peer_id(&server).unwrap().to_string(), id("client"));
            assert_eq!(peer_id(&client).unwrap().to_string(), id("server"));
            let mut serials = self.serials.lock().unwrap();
            for leaf in [server.peer_certificates(), client.peer_certificates()] {
                let leaf = Certificate::from_der(leaf.unwrap()[0].clone()).unwrap();
                serials.insert(leaf.serial_hex());
            }
            drop(serials);
            self.done.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Waits until no handshake goes on that began before step `now`.
    fn wait_for_old_handshakes(&self, now: u64) {
        let began = Instant::now();
        for began_at in &self.began_at {
            while matches!(began_at.load(Ordering::SeqCst), at if at > 0 && at - 1 < now) {
                if began.elapsed() > GUARD {
                    // A thread that failed says why when it is joined.
                    return;
                }
                std::thread::yield_now();
            }
        }
    }
}

fn handshake(
    configs: &(Arc<ServerConfig>, Arc<ClientConfig>),
) -> (ServerConnection, ClientConnection) {
    let name = ServerName::try_from("spiffe.invalid").unwrap();
    let mut client = ClientConnection::new(Arc::clone(&configs.1), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(&configs.0)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
        }
        server.process_new_packets().expect("the server lets it in");
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
        }
        client.process_new_packets().expect("the client goes on");
    }
    (server, client)
}
