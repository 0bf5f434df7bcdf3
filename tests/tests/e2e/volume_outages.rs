//! A file system that takes nothing for an hour: the volume's, and the state's.
use std::{fs, path::PathBuf};

use certagent::run::agent::RunningAgent;
use certagent_svid::layout;
use certagent_tests::{Lab, Policy, until};
use jiff::SignedDuration;

use crate::support::{
    abandoned, attempts_for, balanced, creates, due, failed, frozen, heal, sold, status, supplied,
};

/// A directory with content where the agent's own link belongs: nothing can be published, by
/// root neither.
struct InTheWay(PathBuf);

impl InTheWay {
    fn of(lab: &Lab) -> Self {
        let directory = lab.volume("a").join(layout::DATA_TMP);
        fs::create_dir_all(directory.join("full")).unwrap();
        fs::write(directory.join("full/file"), "").unwrap();
        Self(directory)
    }

    fn take_away(self) {
        fs::remove_dir_all(self.0).unwrap();
    }
}

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn six_hours() -> Policy {
    Policy {
        validity: 6 * 3600,
        ..Policy::default()
    }
}

#[tokio::test]
async fn an_hour_without_a_volume_to_write_before_the_first_issue_buys_nothing_in_vain() {
    let lab = Lab::new().await;
    lab.write_policy(&six_hours());
    let agent = lab.agent().await;
    fs::create_dir(lab.volume("a")).unwrap();
    let in_the_way = InTheWay::of(&lab);
    lab.write_workload("a");
    until(&agent, |statuses| !statuses.is_empty()).await;
    failed(&agent, "move it away").await;
    let attempts = attempts_for(&lab, &agent, HOUR).await;
    assert!((12..=20).contains(&attempts), "{attempts}");
    assert_eq!(creates(&lab), 0);

    in_the_way.take_away();
    heal(&lab, &agent).await;
    assert_eq!((sold(&lab), abandoned(&agent).await), (1, 0));
    agent.stop().await;
}

/// A renewal comes due while the volume cannot be written, which lasts for so many minutes.
async fn a_renewal_without_a_volume(lab: &Lab, minutes: i64) -> RunningAgent {
    let agent = supplied(lab, &six_hours()).await;
    let before = frozen(&lab.volume("a"));
    let in_the_way = InTheWay::of(lab);
    due(lab, &agent);
    failed(&agent, "move it away").await;
    let attempts = attempts_for(lab, &agent, SignedDuration::from_mins(minutes)).await;
    assert!((8..=24).contains(&attempts), "{attempts}");
    assert_eq!(frozen(&lab.volume("a")), before);
    assert!(status(&agent.statuses(), "a").is_valid(lab.now()));

    in_the_way.take_away();
    heal(lab, &agent).await;
    assert_ne!(frozen(&lab.volume("a")), before);
    agent
}

#[tokio::test]
async fn what_was_bought_for_a_volume_that_cannot_be_written_for_forty_minutes_is_used_in_the_end()
{
    let lab = Lab::new().await;
    let agent = a_renewal_without_a_volume(&lab, 40).await;
    assert_eq!((sold(&lab), abandoned(&agent).await), (2, 0));
    agent.stop().await;
}

#[tokio::test]
async fn an_hour_without_a_volume_to_write_loses_the_one_certificate_that_was_bought_for_it() {
    let lab = Lab::new().await;
    let agent = a_renewal_without_a_volume(&lab, 60).await;
    // Its ids are known for 55 minutes.
    assert_eq!((sold(&lab), abandoned(&agent).await), (3, 1));
    balanced(&lab, &agent).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_hour_without_a_state_to_write_buys_nothing_and_leaves_the_certificate_where_it_is() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &six_hours()).await;
    let before = frozen(&lab.volume("a"));
    // A file where the state of the volumes belongs: it cannot be written, by root neither.
    let (state, aside) = (lab.state_dir().join("volumes"), lab.path().join("aside"));
    fs::rename(&state, &aside).unwrap();
    fs::write(&state, "").unwrap();
    due(&lab, &agent);
    failed(&agent, &state.display().to_string()).await;
    let attempts = attempts_for(&lab, &agent, HOUR).await;
    assert!((12..=24).contains(&attempts), "{attempts}");
    assert_eq!(frozen(&lab.volume("a")), before);
    assert_eq!(creates(&lab), 1);

    fs::remove_file(&state).unwrap();
    fs::rename(&aside, &state).unwrap();
    heal(&lab, &agent).await;
    assert_ne!(frozen(&lab.volume("a")), before);
    assert_eq!((sold(&lab), abandoned(&agent).await), (2, 0));
    agent.stop().await;
}
