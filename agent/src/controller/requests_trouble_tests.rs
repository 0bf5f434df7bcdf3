//! What must not be lost, bought twice or waited for when something is in the way.
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;

#[tokio::test]
async fn an_approval_that_cannot_be_written_uses_up_no_allowance() {
    let bench = Bench::start().await;
    bench
        .server
        .change(|store| store.refuses = Some("approval"));
    bench.ask("one", |_| ()).await;
    bench.until(|store| store.refused >= 8).await;
    let before = bench.clock.now();
    bench.server.change(|store| store.refuses = None);
    bench.until(is_signed).await;
    // It is tried again after at most half a minute, and not after a fiftieth of the validity.
    let waited = bench.clock.now().duration_since(before);
    assert!(waited < SignedDuration::from_secs(45), "{waited}");
}

#[tokio::test]
async fn what_cannot_be_written_is_bought_once_and_kept() {
    let bench = Bench::start().await;
    bench.server.change(|store| store.refuses = Some("status"));
    bench.ask("one", |_| ()).await;
    bench.until(|store| store.refused >= 8).await;
    assert_eq!((bench.sold(), bench.creates()), (1, 1));
    bench.server.change(|store| store.refuses = None);
    bench.until(is_signed).await;
    assert_eq!((bench.sold(), bench.creates()), (1, 1));
}

#[tokio::test]
async fn what_may_have_been_sold_is_counted_when_its_pool_or_its_request_goes() {
    let bench = Bench::idle(Lab::start().await, vec![issuing()]).await;
    let lost = FaultRule::always(Fault::LostReply).on(Method::CreateCertificate);
    bench.lab.emulator.set_faults(vec![lost]);
    bench.controller();
    bench.ask("one", |_| ()).await;
    bench.until(has("Issued")).await;
    assert_eq!(bench.abandoned(), 0);
    // Another pool, of the same root, is named in its place.
    bench.config.send_modify(|state| {
        let mut active = (**state.active.as_ref().unwrap()).clone();
        let mut config = (*active.config).clone();
        config.certificates.pools = vec![pool("root-pool")];
        active.config = Arc::new(config);
        state.active = Some(Arc::new(active));
    });
    bench.lab.heal();
    bench.until(is_signed).await;
    assert_eq!((bench.sold(), bench.abandoned()), (2, 1));

    let bench = Bench::idle(Lab::start().await, vec![issuing()]).await;
    let lost = FaultRule::always(Fault::LostReply).on(Method::CreateCertificate);
    bench.lab.emulator.set_faults(vec![lost]);
    bench.controller();
    bench.ask("one", |_| ()).await;
    bench.until(has("Issued")).await;
    bench.server.change(|store| store.delete("one"));
    bench.counted().await;
    assert_eq!(bench.abandoned(), 1);
}

#[tokio::test]
async fn a_pool_that_has_not_answered_for_long_is_not_waited_for_again() {
    let bench = Bench::idle(Lab::start().await, vec![issuing(), pool("root-pool")]).await;
    let away = Fault::error(ApiError::new(Code::Unavailable, "away"));
    let issuing = "issuing-pool".parse().unwrap();
    bench
        .lab
        .emulator
        .set_faults(vec![FaultRule::always(away).at(issuing)]);
    bench.controller();
    bench.ask("first", |_| ()).await;
    bench.until(is_signed).await;
    let after_first = bench.clock.now();
    assert!(after_first.duration_since(now()) >= SignedDuration::from_secs(60));
    bench.ask("second", |_| ()).await;
    let second = |store: &Store| certificate(&store.csrs["second"]).is_some();
    bench.until(second).await;
    let waited = bench.clock.now().duration_since(after_first);
    assert!(waited < SignedDuration::from_secs(30), "{waited}");

    // Whoever comes after a crash has to know that it was not the first pool that sold: as long as
    // that cannot be written, nothing is bought.
    bench.server.change(|store| store.refuses = Some("status"));
    bench.ask("third", |_| ()).await;
    bench.until(|store| store.refused >= 8).await;
    assert_eq!(bench.sold(), 2);
    bench.server.change(|store| store.refuses = None);
    let third = |store: &Store| certificate(&store.csrs["third"]).is_some();
    bench.until(third).await;
    assert_eq!(bench.sold(), 3);
}

#[tokio::test]
async fn old_requests_let_a_new_one_go_first() {
    let bench = Bench::idle(Lab::start().await, vec![issuing()]).await;
    for number in 0..8 {
        bench
            .ask(&format!("old-{number}"), |csr| {
                let hours_ago = now() - SignedDuration::from_hours(5);
                csr["metadata"]["creationTimestamp"] = json!(hours_ago.to_string());
            })
            .await;
    }
    bench.ask("z-new", |_| ()).await;
    bench.controller();
    bench
        .until(|store| certificate(&store.csrs["z-new"]).is_some())
        .await;
    bench.server.change(|store| {
        let old = store.csrs.values().filter(|csr| certificate(csr).is_some());
        assert_eq!(old.count(), 1, "an old one was signed before");
    });
}

#[tokio::test]
async fn a_clock_that_is_ahead_of_the_api_server_s_ends_no_request() {
    let bench = Bench::start().await;
    bench
        .ask("one", |csr| {
            let hours_ago = now() - SignedDuration::from_hours(5);
            csr["metadata"]["creationTimestamp"] = json!(hours_ago.to_string());
        })
        .await;
    bench.until(is_signed).await;
    bench
        .server
        .change(|store| assert_eq!(store.condition("Failed"), None));
}

/// What CA Service takes the public key from: the node's request.
fn key_part(body: &[u8]) -> Vec<u8> {
    let body: Value = serde_json::from_slice(body).unwrap();
    let pem = body["config"]["publicKey"]["key"].as_str().unwrap();
    let pem = String::from_utf8(STANDARD.decode(pem).unwrap()).unwrap();
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    STANDARD.decode(lines.collect::<String>()).unwrap()
}

#[tokio::test]
async fn a_renewal_near_its_end_is_not_stuck_behind_others() {
    let bench = Bench::idle(Lab::start().await, vec![issuing()]).await;
    let hangs = FaultRule::always(Fault::Hang).on(Method::CreateCertificate);
    bench.lab.emulator.set_faults(vec![hangs]);
    bench.controller();
    let needed = |csr: &mut Value, minutes: i64| {
        let end = now() + SignedDuration::from_mins(minutes);
        csr["metadata"]["annotations"]["certagent.dev/needed-by"] = end.to_string().into();
    };
    let asked = async |count: usize| {
        while bench.lab.emulator.create_requests().len() < count {
            bench.clock.step(SignedDuration::from_millis(200));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    for number in 0..PURCHASES + 8 {
        let routine = |csr: &mut Value| {
            needed(csr, 30);
            // What is approved already needs no allowance of the pod's.
            csr["status"]["conditions"] = json!([condition("Approved", "True", "ByHand", "")]);
        };
        bench.ask(&format!("routine-{number}"), routine).await;
    }
    asked(PURCHASES).await;
    let urgent = bench.ask("urgent", |csr| needed(csr, 1)).await;
    asked(PURCHASES + 1).await;
    let next = &bench.lab.emulator.create_requests()[PURCHASES];
    let part = key_part(&next.body);
    let mut places = part.windows(urgent.public_key().len());
    assert!(places.any(|place| place == urgent.public_key()));
}

#[tokio::test]
async fn whoever_waits_for_its_turn_is_approved_and_has_to_keep_the_rules_when_it_comes() {
    let bench = Bench::idle(Lab::start().await, vec![issuing()]).await;
    let requests = bench.requests();
    let all = u32::try_from(PURCHASES).unwrap();
    for is_there in [true, false] {
        let others = requests
            .turns(Priority::New)
            .acquire_many(all)
            .await
            .unwrap();
        let running = CancellationToken::new();
        tokio::spawn(Arc::clone(&requests).run(running.clone()));
        bench.ask("one", |_| ()).await;
        bench.until(has("Approved")).await;
        bench.settle().await;
        assert_eq!(bench.creates(), u64::from(!is_there));
        if !is_there {
            bench.server.change(|store| store.pods.clear());
        }
        drop(others);
        if is_there {
            bench.until(is_signed).await;
        } else {
            bench.until(has("Failed")).await;
            bench.server.change(|store| {
                let failed = store.condition("Failed").unwrap();
                assert_eq!(failed["reason"], "ApprovedButNotValid");
                let message = failed["message"].as_str().unwrap();
                assert!(message.starts_with("PodNotFound: "), "{message}");
            });
        }
        running.cancel();
        bench.server.change(|store| store.delete("one"));
    }
    assert_eq!(bench.sold(), 1);
}
