//! A controller that ends at any moment, and the next one: what is sold is in the objects.
use tokio::task::JoinHandle;

use super::*;
use crate::issuer::csr_lab::Death;

/// A controller that can be killed: what it has under way ends with it, wherever it is.
struct Mortal {
    task: JoinHandle<()>,
}

impl Mortal {
    fn start(bench: &Bench) -> Self {
        let task = tokio::spawn(bench.requests().run(bench.cancel.clone()));
        Self { task }
    }

    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// What the CA does while the first controller lives.
type Trouble = fn() -> Vec<FaultRule>;

/// A request and a controller that dies at its `call`th call to the API server, and a second one, which
/// has to bring the request to its end. None if there are not so many calls.
async fn died_at(
    trouble: Trouble,
    pools: Vec<CaPoolName>,
    call: usize,
    death: Death,
) -> Option<Bench> {
    let bench = Bench::idle(Lab::start().await, pools).await;
    bench.lab.emulator.set_faults(trouble());
    let key = bench.ask("one", |_| ()).await;
    bench
        .server
        .change(|store| store.dies_at = Some((call, death)));
    let first = Mortal::start(&bench);
    bench
        .until(|store| store.has_died || is_signed(store))
        .await;
    if !bench.server.change(|store| store.has_died) {
        // It may die right after the call that signs, too.
        bench.settle().await;
    }
    first.kill().await;
    if !bench.server.change(|store| store.has_died) {
        return None;
    }
    bench.lab.heal();
    let _second = Mortal::start(&bench);
    bench.until(is_signed).await;
    bench.server.change(|store| {
        let chain = certificate(store.only()).unwrap();
        assert!(key.fits(chain.leaf()), "{call} {death:?}");
        assert_eq!(store.condition("Denied"), None, "{call} {death:?}");
        assert_eq!(store.condition("Failed"), None, "{call} {death:?}");
    });
    Some(bench)
}

/// Dies at each call, before it and after it; gives the number of calls.
async fn at_each_call(
    trouble: Trouble,
    pools: &[CaPoolName],
    check: impl Fn(&Bench, &str),
) -> usize {
    for call in 1.. {
        for death in [Death::Before, Death::After] {
            let Some(bench) = died_at(trouble, pools.to_vec(), call, death).await else {
                return call - 1;
            };
            check(&bench, &format!("killed at call {call}: {death:?}"));
        }
    }
    unreachable!()
}

#[tokio::test]
async fn a_controller_killed_at_any_call_buys_one_certificate_with_the_next() {
    let one = |bench: &Bench, at: &str| {
        assert_eq!((bench.sold(), bench.abandoned()), (1, 0), "{at}");
    };
    // It reads the request and the pod, approves, tells, and writes the certificate.
    let calls = at_each_call(Vec::new, &[issuing()], one).await;
    assert!(calls >= 5, "{calls}");
    // The answer is lost once: between the two last calls it says so, and reads both anew.
    let lost = || vec![FaultRule::next(1, Fault::LostReply).on(Method::CreateCertificate)];
    let calls = at_each_call(lost, &[issuing()], one).await;
    assert!(calls >= 8, "{calls}");
}

#[tokio::test]
async fn a_controller_killed_while_the_ca_works_buys_one_certificate_with_the_next() {
    // The request has not come through, or it has and nobody hears the answer.
    for trouble in [Fault::Hang, Fault::LostReply] {
        let bench = Bench::idle(Lab::start().await, vec![issuing()]).await;
        let rule = FaultRule::always(trouble.clone()).on(Method::CreateCertificate);
        bench.lab.emulator.set_faults(vec![rule]);
        bench.ask("one", |_| ()).await;
        let first = Mortal::start(&bench);
        while bench.creates() == 0 {
            bench.clock.step(SignedDuration::from_millis(200));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        first.kill().await;
        bench.lab.heal();
        let _second = Mortal::start(&bench);
        bench.until(is_signed).await;
        assert_eq!((bench.sold(), bench.abandoned()), (1, 0), "{trouble:?}");
    }
}

#[tokio::test]
async fn what_a_killed_controller_gave_up_is_counted_by_it_or_by_the_next() {
    let lost = || {
        let issuing = "issuing-pool".parse().unwrap();
        let lost = FaultRule::always(Fault::LostReply).on(Method::CreateCertificate);
        vec![lost.at(issuing)]
    };
    let pools = [issuing(), pool("root-pool")];
    let calls = at_each_call(lost, &pools, |bench, at| {
        let in_objects = 1;
        assert!(bench.sold() <= in_objects + bench.abandoned(), "{at}");
        assert!(bench.sold() <= 2, "{at}");
    })
    .await;
    assert!(calls > 8, "{calls}");
}

/// Lets so many minutes pass.
async fn minutes(bench: &Bench, minutes: i64) {
    for _ in 0..minutes * 6 {
        bench.clock.step(SignedDuration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A request that was approved while the CA was away, and said so.
async fn waiting_without_a_ca() -> (Bench, Mortal) {
    let bench = Bench::idle(Lab::start().await, vec![issuing()]).await;
    let away = Fault::error(ApiError::new(Code::Unavailable, "away"));
    bench.lab.always(away);
    bench.ask("one", |_| ()).await;
    let controller = Mortal::start(&bench);
    bench.until(has("Issued")).await;
    (bench, controller)
}

#[tokio::test]
async fn an_outage_of_hours_ends_no_request_whoever_leads_meanwhile() {
    let (bench, mut controller) = waiting_without_a_ca().await;
    for _ in 0..3 {
        minutes(&bench, 50).await;
        controller.kill().await;
        controller = Mortal::start(&bench);
    }
    minutes(&bench, 1).await;
    bench.lab.set_time(bench.clock.now());
    bench.lab.heal();
    bench.until(is_signed).await;
    assert_eq!((bench.sold(), bench.abandoned()), (1, 0));
}

#[tokio::test]
async fn what_may_have_been_sold_before_nobody_led_for_an_hour_is_given_up() {
    let bench = Bench::idle(Lab::start().await, vec![issuing()]).await;
    let lost = FaultRule::always(Fault::LostReply).on(Method::CreateCertificate);
    bench.lab.emulator.set_faults(vec![lost]);
    bench.ask("one", |_| ()).await;
    let controller = Mortal::start(&bench);
    bench.until(has("Issued")).await;
    controller.kill().await;
    bench.lab.heal();
    bench.clock.step(SignedDuration::from_hours(1));
    let _next = Mortal::start(&bench);
    bench.until(has("Failed")).await;
    bench.server.change(|store| {
        assert_eq!(store.condition("Failed").unwrap()["reason"], "TooOld");
    });
    bench.counted().await;
    assert_eq!((bench.sold(), bench.abandoned()), (1, 1));
}
