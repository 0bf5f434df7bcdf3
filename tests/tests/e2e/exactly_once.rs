//! Each certificate is bought once, whatever happens on the way.
use certagent::run::agent::RunningAgent;
use certagent_emulator::{ApiError, CertificateFault, Code, Fault, FaultRule, Method, Tier};
use certagent_tests::{Lab, Policy, all_ready};

use crate::support::{
    abandoned, an_hour, asked, balanced, creates, drain, due, failed, forward, guide_and, heal,
    renew, sellers, sold, status, supplied, two_pools, with_fallback, write_workloads,
};

/// A small generator of numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    /// A number below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn fault(&mut self) -> Fault {
        match self.roll(4) {
            0 => Fault::CloseBefore,
            1 | 2 => Fault::CloseAfter,
            _ => Fault::error(ApiError::new(Code::Unavailable, "try again")),
        }
    }
}

/// Rules for the next few requests: some befall the look at the pool and the roots, most the
/// purchase.
fn some_faults(dice: &mut Dice) -> Vec<FaultRule> {
    (0..dice.roll(4))
        .map(|_| {
            let rule = FaultRule::next(1, dice.fault());
            if dice.roll(5) == 0 {
                rule
            } else {
                rule.on(Method::CreateCertificate)
            }
        })
        .collect()
}

/// Sets the clock to the next renewal of `a`, and attempts until it has succeeded.
async fn renew_at_last(lab: &Lab, agent: &RunningAgent, rotation: u64) {
    due(lab, agent);
    certagent_tests::until(agent, |statuses| {
        let now = status(statuses, "a");
        now.failures > 0 || now.rotations >= rotation
    })
    .await;
    let after = heal(lab, agent).await;
    assert_eq!(after.rotations, rotation);
    let there = lab.read("a");
    assert_eq!(
        there.chain().leaf().serial_hex(),
        after.certificate.unwrap().serial
    );
}

#[tokio::test]
async fn sixty_rotations_under_random_faults_sell_sixty_certificates_and_all_are_used() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &Policy::default()).await;
    let mut dice = Dice(20_261_121);
    let mut failures = 0;
    for rotation in 1..=60 {
        let rules = some_faults(&mut dice);
        failures += rules.len();
        lab.faults(rules);
        renew_at_last(&lab, &agent, rotation).await;
    }
    assert!(failures > 40, "only {failures} faults");
    assert_eq!((sold(&lab), abandoned(&agent).await), (61, 0));
    balanced(&lab, &agent).await;
    agent.stop().await;
}

#[tokio::test]
async fn with_a_fallback_nothing_is_bought_twice_and_it_is_asked_only_after_a_definite_no() {
    let lab = two_pools().await;
    let agent = supplied(&lab, &with_fallback()).await;
    let mut dice = Dice(20_261_122);
    let (mut failures, mut refusals) = (0, 0);
    for rotation in 1..=50 {
        let mut rules = some_faults(&mut dice);
        // Before anything else befalls the request, so that it is a definite no.
        let is_refused = dice.roll(5) == 0;
        if is_refused {
            let no = ApiError::new(Code::FailedPrecondition, "no CA");
            rules.retain(|_| false);
            rules.push(FaultRule::next(1, Fault::error(no)).on(Method::CreateCertificate));
            refusals += 1;
        }
        failures += rules.len();
        lab.faults(rules);
        let before = sellers(&lab).len();
        renew_at_last(&lab, &agent, rotation).await;
        let seller = if is_refused {
            "second-pool"
        } else {
            "issuing-pool"
        };
        assert_eq!(sellers(&lab)[before..], [seller], "rotation {rotation}");
    }
    assert!(failures > 30 && refusals > 4, "{failures} {refusals}");
    assert_eq!((sold(&lab), abandoned(&agent).await), (51, 0));
    agent.stop().await;
}

#[tokio::test]
async fn a_no_to_a_request_that_may_have_been_carried_out_proves_nothing_and_it_is_sent_again() {
    let lab = two_pools().await;
    let agent = supplied(&lab, &with_fallback()).await;
    for (rotation, code) in (1..).zip([
        Code::NotFound,
        Code::PermissionDenied,
        Code::FailedPrecondition,
        Code::InvalidArgument,
        Code::Unauthenticated,
    ]) {
        let no = Fault::error(ApiError::new(code, "no"));
        lab.faults([
            FaultRule::next(1, Fault::CloseAfter).on(Method::CreateCertificate),
            FaultRule::next(2, no).on(Method::CreateCertificate),
        ]);
        let before = asked(&lab).len();
        renew_at_last(&lab, &agent, rotation).await;
        let requests = lab.emulator.create_requests();
        assert_eq!(requests.len() - before, 4, "{code:?}");
        assert!(
            requests[before..]
                .iter()
                .all(|one| *one == requests[before])
        );
        assert_eq!((sold(&lab), abandoned(&agent).await), (rotation + 1, 0));
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_no_that_stays_is_believed_when_the_budget_is_spent_and_the_loss_is_counted() {
    let lab = two_pools().await;
    lab.write_policy(&with_fallback());
    lab.write_workload("a");
    let pool_is_gone = Fault::error(ApiError::new(Code::NotFound, "gone"));
    lab.faults([
        FaultRule::next(1, Fault::CloseAfter).on(Method::CreateCertificate),
        FaultRule::next(6, pool_is_gone).on(Method::CreateCertificate),
    ]);
    let agent = lab.agent().await;
    failed(&agent, "broke before the answer").await;
    let began = lab.now();
    heal(&lab, &agent).await;
    let took = lab.now().duration_since(began).as_secs();
    assert!((60..=90).contains(&took), "{took}");
    assert_eq!(sellers(&lab), ["issuing-pool", "second-pool"]);
    assert_eq!((sold(&lab), abandoned(&agent).await), (2, 1));
    agent.stop().await;
}

#[tokio::test]
async fn a_certificate_that_an_answer_lacks_is_fetched_from_a_pool_that_keeps_it() {
    let mut config = guide_and([]);
    config.pools[1].tier = Tier::Enterprise;
    let lab = Lab::with(config).await;
    let agent = supplied(&lab, &an_hour()).await;
    for rotation in 1..=3 {
        let withheld = Fault::Certificate(CertificateFault::NoCertificate);
        lab.faults([FaultRule::next(1, withheld)]);
        let used = renew(&lab, &agent).await;
        assert_eq!(lab.emulator.sold_serials().last(), Some(&used.serial));
        assert_eq!(status(&agent.statuses(), "a").failures, 0);
        let stats = lab.emulator.stats();
        assert_eq!(stats.requests(Method::GetCertificate), rotation);
        assert_eq!((creates(&lab), sold(&lab)), (rotation + 1, rotation + 1));
    }
    assert_eq!(abandoned(&agent).await, 0);
    balanced(&lab, &agent).await;
    agent.stop().await;
}

/// Drains until every volume has what it is due, while replies are lost for half a minute: what is
/// asked for after that comes back before any budget is spent, however often it was lost before.
async fn supply_under_loss(lab: &Lab, agent: &RunningAgent, rotations: u64) {
    let is_done = || {
        let statuses = agent.statuses();
        all_ready(&statuses) && statuses.iter().all(|one| one.rotations == rotations)
    };
    let lost = FaultRule::always(Fault::LostReply).on(Method::CreateCertificate);
    lab.faults([lost.share(30, 20_261_123 + rotations)]);
    let began = lab.now();
    while !is_done() {
        drain(lab, agent).await;
        let seconds = lab.now().duration_since(began).as_secs();
        if seconds >= 30 {
            lab.faults([]);
        }
        assert!(seconds < 600, "{:#?}", agent.statuses());
    }
}

#[tokio::test]
async fn with_three_replies_in_ten_lost_many_buy_each_certificate_once_and_from_the_first_pool() {
    const MANY: u64 = 40;
    const ROTATIONS: u64 = 4;
    let lab = two_pools().await;
    lab.write_policy(&with_fallback());
    write_workloads(&lab, 0..usize::try_from(MANY).unwrap());
    let agent = lab.agent().await;
    supply_under_loss(&lab, &agent, 0).await;
    for rotation in 1..=ROTATIONS {
        let last = agent
            .statuses()
            .into_iter()
            .map(|status| status.next_attempt);
        forward(&lab, last.max().expect("there are some"));
        supply_under_loss(&lab, &agent, rotation).await;
    }
    let used = MANY * (1 + ROTATIONS);
    let lost = creates(&lab) - used;
    assert!(lost > used / 5, "only {lost} replies were lost");
    assert_eq!((sold(&lab), abandoned(&agent).await), (used, 0));
    assert!(asked(&lab).iter().all(|pool| pool == "issuing-pool"));
    agent.stop().await;
}
