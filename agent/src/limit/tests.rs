use std::{future::Future, pin::Pin, task::Poll};

use certagent_core::pool::CaPoolName;
use futures::{future::join_all, poll};
use jiff::SignedDuration;

use super::*;
use crate::{
    cas::error::{Call, Reason},
    clock::{Clock as _, ManualClock},
};

struct Bench {
    clock: ManualClock,
    limiter: Limiter,
    metrics: Arc<Metrics>,
}

type Waiter<'a> = Pin<Box<dyn Future<Output = Result<(), Closed>> + Send + 'a>>;

impl Bench {
    fn new(share: u8) -> Self {
        let clock = ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap());
        let metrics = Arc::new(Metrics::default());
        let limiter = Limiter::new(Arc::new(clock.clone()), share, Arc::clone(&metrics));
        Self {
            clock,
            limiter,
            metrics,
        }
    }

    fn step(&self, millis: i64) {
        self.clock.step(SignedDuration::from_millis(millis));
    }

    fn wait<'a>(&'a self, pool: &'a CaPoolName, priority: Priority) -> Waiter<'a> {
        Box::pin(self.limiter.admit(pool, priority))
    }

    /// How many of so many get through now.
    async fn through(&self, pool: &CaPoolName, many: usize) -> usize {
        let mut waiters: Vec<_> = (0..many).map(|_| self.wait(pool, Priority::New)).collect();
        settled(&mut waiters).await.len()
    }

    fn hears(&self, pool: &CaPoolName, reason: Reason, wait: Option<u64>) {
        let wait = wait.map(Duration::from_secs);
        let error = CallError::new(Call::CreateCertificate, pool, reason, wait);
        let began = self.clock.now();
        self.limiter
            .heard(pool, Asked::Purchase, began, Some(&error));
    }

    fn metric(&self, name: &str) -> String {
        let text = self.metrics.render(&[], self.clock.now()).unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    }
}

/// The places of those whose wait is over, in the order in which it ended. They are taken out.
async fn settled(waiters: &mut Vec<Waiter<'_>>) -> Vec<(usize, Result<(), Closed>)> {
    let mut over = Vec::new();
    let mut done = vec![false; waiters.len()];
    loop {
        let before = over.len();
        for (place, waiter) in waiters.iter_mut().enumerate().filter(|(i, _)| !done[*i]) {
            if let Poll::Ready(result) = poll!(waiter) {
                over.push((place, result));
            }
        }
        for (place, _) in &over[before..] {
            done[*place] = true;
        }
        if over.len() == before {
            let mut kept = done.iter().map(|done| !done);
            waiters.retain(|_| kept.next().unwrap_or(true));
            return over;
        }
    }
}

fn pool(id: &str) -> CaPoolName {
    format!("//privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools/{id}")
        .parse()
        .unwrap()
}

fn busy() -> Reason {
    let status = Some("RESOURCE_EXHAUSTED".to_owned());
    Reason::Answer {
        http: 429,
        status,
        message: String::new(),
        permission: None,
    }
}

fn broken() -> Reason {
    let (endpoint, detail) = ("e".to_owned(), "d".to_owned());
    Reason::Broken { endpoint, detail }
}

#[tokio::test]
async fn a_pool_gets_what_its_tier_and_its_cas_sign_and_no_more_than_its_location_does() {
    for (share, tier, authorities, at_once, in_ten_seconds) in [
        (100, Tier::Devops, 1, 20, 250),
        (100, Tier::Enterprise, 1, 5, 70),
        (100, Tier::Unknown, 3, 16, 210),
        (100, Tier::Devops, 0, 20, 250),
        (100, Tier::Devops, 3, 60, 750),
        (100, Tier::Devops, 1000, 80, 1000),
        (20, Tier::Devops, 1, 4, 50),
        (50, Tier::Devops, usize::MAX, 40, 500),
        (1, Tier::Enterprise, 1, 1, 0),
    ] {
        let (bench, pool) = (Bench::new(share), pool("a"));
        bench.limiter.learn(&pool, tier, authorities);
        let through = bench.through(&pool, 200).await;
        assert_eq!(through, at_once, "{tier:?} {authorities}");
        let mut through = 0;
        for _ in 0..20 {
            bench.step(500);
            through += bench.through(&pool, 200).await;
        }
        // A part of one may be left from before, and for later.
        assert!(
            through.abs_diff(in_ten_seconds) <= 1,
            "{tier:?} {authorities}: {through}"
        );
    }
}

#[tokio::test]
async fn a_pool_of_which_nothing_is_known_gets_seven_a_second_and_each_has_its_own() {
    let bench = Bench::new(100);
    assert_eq!(bench.through(&pool("a"), 20).await, 5);
    assert_eq!(bench.through(&pool("b"), 20).await, 5);
    assert_eq!(bench.through(&pool("a"), 20).await, 0);
    bench.step(500);
    assert_eq!(bench.through(&pool("a"), 20).await, 4);
    bench.step(500);
    assert_eq!(bench.through(&pool("a"), 20).await, 3);
}

#[tokio::test]
async fn a_thousand_at_once_take_forty_seconds_by_the_clock() {
    let (bench, pool) = (Bench::new(100), pool("a"));
    bench.limiter.learn(&pool, Tier::Devops, 1);
    let mut waiters: Vec<_> = (0..1000)
        .map(|_| bench.wait(&pool, Priority::New))
        .collect();
    let mut through = 0;
    let mut halves = 0;
    loop {
        let gone = settled(&mut waiters).await.len();
        assert!(gone <= 20, "{gone} in half-second {halves}");
        through += gone;
        if waiters.is_empty() {
            break;
        }
        bench.step(500);
        halves += 1;
    }
    assert_eq!(through, 1000);
    assert!((78..=79).contains(&halves), "{halves}");
}

#[tokio::test]
async fn who_ends_soon_overtakes_and_who_goes_away_gives_the_place_back() {
    let (bench, pool) = (Bench::new(100), pool("a"));
    assert_eq!(bench.through(&pool, 7).await, 5);
    let mut waiters: Vec<_> = (0..3).map(|_| bench.wait(&pool, Priority::New)).collect();
    assert_eq!(settled(&mut waiters).await, []);
    waiters.push(bench.wait(&pool, Priority::NearExpiry));
    assert_eq!(settled(&mut waiters).await, []);
    drop(waiters.remove(0));
    bench.step(150);
    assert_eq!(settled(&mut waiters).await, [(2, Ok(()))]);
    bench.step(290);
    assert_eq!(settled(&mut waiters).await, [(0, Ok(())), (1, Ok(()))]);
}

#[tokio::test]
async fn a_complaint_slows_all_and_a_short_wait_is_waited_out() {
    let (bench, pool) = (Bench::new(100), pool("a"));
    bench.limiter.learn(&pool, Tier::Devops, 1);
    bench.hears(&pool, busy(), Some(10));
    assert_eq!(bench.metric("certagent_pool_throttled_total"), "1");
    assert_eq!(bench.metric("certagent_pool_rate"), "12.5");
    let mut waiters: Vec<_> = (0..50).map(|_| bench.wait(&pool, Priority::New)).collect();
    assert_eq!(settled(&mut waiters).await, []);
    bench.step(9_999);
    assert_eq!(settled(&mut waiters).await, []);
    bench.step(1);
    assert_eq!(settled(&mut waiters).await, []);
    bench.step(1000);
    let gone = settled(&mut waiters).await.len();
    assert_eq!(gone, 10);
    drop(waiters);
    for _ in 0..30 {
        bench.step(1000);
        assert_eq!(bench.through(&pool, 1).await, 1);
    }
    bench.step(1000);
    assert_eq!(bench.through(&pool, 50).await, 20, "it has grown back");
    assert_eq!(bench.metric("certagent_pool_rate"), "25.0");
}

#[tokio::test]
async fn a_pool_that_is_closed_for_long_is_not_waited_for() {
    let (bench, pool) = (Bench::new(100), pool("a"));
    assert_eq!(bench.through(&pool, 7).await, 5);
    let mut waiters: Vec<_> = (0..3).map(|_| bench.wait(&pool, Priority::New)).collect();
    assert_eq!(settled(&mut waiters).await, []);
    bench.hears(&pool, busy(), Some(90));
    let wait = Duration::from_secs(90);
    let closed = Err(Closed { wait });
    assert_eq!(
        settled(&mut waiters).await,
        [(0, closed), (1, closed), (2, closed)]
    );
    bench.step(60_000);
    assert_eq!(bench.through(&pool, 1).await, 0, "30 s are waited for");
    bench.step(31_000);
    assert_eq!(bench.through(&pool, 10).await, 2);
}

#[tokio::test]
async fn a_clock_that_is_set_back_holds_nobody_up_for_long() {
    let (bench, pool) = (Bench::new(100), pool("a"));
    assert_eq!(bench.through(&pool, 7).await, 5);
    let mut waiters = vec![bench.wait(&pool, Priority::New)];
    assert_eq!(settled(&mut waiters).await, []);
    bench.step(-3_600_000);
    assert_eq!(settled(&mut waiters).await, []);
    bench.step(150);
    assert_eq!(settled(&mut waiters).await, [(0, Ok(()))]);
}

#[tokio::test]
async fn waiting_on_other_threads_loses_nobody() {
    let (bench, pool) = (Bench::new(100), pool("a"));
    let clock = bench.clock.clone();
    let all = join_all((0..40).map(|_| bench.limiter.admit(&pool, Priority::Routine)));
    let ticking = async {
        loop {
            clock.step(SignedDuration::from_millis(100));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        results = all => assert!(results.iter().all(Result::is_ok)),
        () = ticking => {}
    }
}

#[test]
fn silence_makes_a_pool_away_whatever_its_quota_and_any_answer_ends_it() {
    let (bench, pool) = (Bench::new(100), pool("a"));
    for _ in 0..4 {
        assert!(!bench.limiter.is_away(&pool));
        bench.hears(&pool, broken(), None);
        bench.step(25_000);
    }
    assert!(bench.limiter.is_away(&pool));
    assert_eq!(bench.metric("certagent_pool_away"), "1");
    assert!(!bench.limiter.may_probe(&pool));
    bench.step(5_000);
    assert!(bench.limiter.may_probe(&pool) && !bench.limiter.may_probe(&pool));
    bench.hears(&pool, busy(), None);
    assert!(!bench.limiter.is_away(&pool));
    assert_eq!(bench.metric("certagent_pool_away"), "0");
}

#[test]
fn a_missing_token_says_nothing_about_the_pool() {
    let (bench, pool) = (Bench::new(100), pool("a"));
    for _ in 0..10 {
        bench.hears(
            &pool,
            Reason::NoToken(crate::google::IdentityError::passing("d".to_owned())),
            None,
        );
        bench.step(25_000);
    }
    assert!(!bench.limiter.is_away(&pool));
}
