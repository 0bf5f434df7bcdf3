//! A pod whose certificate does not come.
use std::time::Duration;

use certagent_emulator::{ApiError, Code, Fault, FaultRule, Method};

use crate::support::Node;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "root, in a mount namespace of its own"]
async fn a_call_that_waits_in_vain_names_what_was_in_the_way() {
    let node = Node::start_waiting(Duration::from_millis(500)).await;
    let no = ApiError::new(Code::Unavailable, "the CA rests");
    node.lab
        .faults([FaultRule::always(Fault::error(no)).on(Method::CreateCertificate)]);
    let pod = node.pod("waiting");
    let told = node.try_publish(&pod).await.unwrap_err();
    assert_eq!(told.code(), tonic::Code::DeadlineExceeded);
    for part in [
        "the work goes on",
        "CreateCertificate at the CA pool //privateca.googleapis.com/",
        "the CA rests",
    ] {
        assert!(told.message().contains(part), "no {part:?} in {told}");
    }
    node.lab.faults([]);
    node.lab.step(10);
    node.publish(&pod).await;
    node.unpublish(&pod).await;
    node.stop().await;
}
