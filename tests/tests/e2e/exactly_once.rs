//! Each certificate is bought once, whatever happens on the way.
use certagent_emulator::{ApiError, Code, Fault, FaultRule, Method};
use certagent_tests::{Lab, Policy};

use crate::support::{abandoned, balanced, due, heal, sold, status, supplied};

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

#[tokio::test]
async fn sixty_rotations_under_random_faults_sell_sixty_certificates_and_all_are_used() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &Policy::default()).await;
    let mut dice = Dice(20_261_121);
    let mut failures = 0;
    for rotation in 1..=60 {
        let rules: Vec<FaultRule> = (0..dice.roll(4))
            .map(|_| {
                let rule = FaultRule::next(1, dice.fault());
                // Some befall the look at the pool and the roots, most the purchase.
                if dice.roll(5) == 0 {
                    rule
                } else {
                    rule.on(Method::CreateCertificate)
                }
            })
            .collect();
        failures += rules.len();
        lab.faults(rules);
        due(&lab, &agent);
        let before = rotation - 1;
        certagent_tests::until(&agent, |statuses| {
            let now = status(statuses, "a");
            now.failures > 0 || now.rotations > before
        })
        .await;
        let after = heal(&lab, &agent).await;
        assert_eq!(after.rotations, rotation);
        let there = lab.read("a");
        assert_eq!(
            there.chain().leaf().serial_hex(),
            after.certificate.unwrap().serial
        );
    }
    assert!(failures > 40, "only {failures} faults");
    assert_eq!((sold(&lab), abandoned(&agent).await), (61, 0));
    balanced(&lab, &agent).await;
    agent.stop().await;
}
