//! From the two objects to a rotating volume.
use certagent_tests::{Lab, all_ready, until};

#[tokio::test]
async fn a_volume_is_supplied_and_rotated_within_its_window() {
    let lab = Lab::new().await;
    lab.write_workload("a");
    let agent = lab.agent().await;
    let statuses = until(&agent, all_ready).await;
    let first = statuses[0].certificate.clone().unwrap();
    assert_eq!(lab.read("a").chain().leaf().serial_hex(), first.serial);

    // One second before its draw nothing happens; at its draw it is renewed.
    let early = first.renew_at.duration_since(lab.now()).as_secs() - 1;
    lab.step(early);
    lab.step(2);
    let statuses = until(&agent, |statuses| statuses[0].rotations == 1).await;
    let second = statuses[0].certificate.clone().unwrap();
    assert_ne!(first.serial, second.serial);
    assert!(second.issued_at >= first.window_start);
    assert_eq!(lab.emulator.sold_serials(), [first.serial, second.serial]);
    agent.stop().await;
}
