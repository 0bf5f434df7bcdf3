//! Trying again before the time. The clock stands still unless a test moves it.
use std::{sync::Arc, time::Duration};

use axum::Router;
use certagent_emulator::{ApiError, Code, Fault, Method};
use jiff::SignedDuration;
use tokio::net::TcpListener;

use super::super::lab::{Site, always};
use crate::{
    cas::{
        CasClient, Endpoint, Roots,
        lab::{Lab, now},
        transport::Timeouts,
    },
    clock::{Clock as _, ManualClock},
    google::{
        Caller, Exchange, ExchangeOptions, Identity, PodToken, SubjectToken, Token, token_lab,
    },
    held::Assignment,
};

#[tokio::test]
async fn a_volume_that_failed_is_tried_again_before_its_time() {
    let site = Site::start().await;
    site.lab.emulator.set_faults(always(Fault::CloseBefore));
    let id = site.publish("web-1");
    site.until(&id, |status| status.failures > 0).await;
    site.lab.heal();
    site.volumes.hasten(&id);
    let ready = site.until(&id, |status| status.certificate.is_some()).await;
    // Where nothing is wrong nothing is done.
    site.volumes.hasten(&id);
    assert_eq!(site.status(&id).unwrap().next_attempt, ready.next_attempt);
    site.stop().await;
}

#[tokio::test]
async fn a_service_that_asked_to_be_left_alone_is_left_alone_all_the_same() {
    let site = Site::start().await;
    let error = ApiError::new(Code::Unavailable, "later");
    let retry_after = Some(Duration::from_secs(20));
    let later = Fault::Error { error, retry_after };
    site.lab.emulator.set_faults(always(later));
    let id = site.publish("web-1");
    site.until(&id, |status| status.failures > 0).await;
    site.lab.heal();
    site.volumes.hasten(&id);
    let asked_for = site.clock.now() + SignedDuration::from_secs(20);
    assert_eq!(site.status(&id).unwrap().next_attempt, asked_for);
    assert_eq!(site.creates(), 1);
    site.clock.step(SignedDuration::from_secs(20));
    site.until(&id, |status| status.certificate.is_some()).await;
    site.stop().await;
}

#[tokio::test]
async fn what_is_being_tried_is_tried_once_more_when_it_fails() {
    let lab = Lab::start().await;
    let timeouts = Timeouts {
        connect: Duration::from_secs(5),
        attempt: Duration::from_millis(500),
    };
    let client = CasClient::trusting(&lab.endpoint, &Roots::none(), Identity::Anonymous, timeouts);
    let site = Site::with(lab, client.unwrap());
    site.lab.emulator.set_faults(always(Fault::Hang));
    let id = site.publish("web-1");
    site.asked(1).await;
    site.volumes.hasten(&id);
    site.asked(2).await;
    let stats = site.lab.emulator.stats();
    assert_eq!(stats.requests(Method::GetCaPool), 1);
    site.stop().await;
}

#[tokio::test]
async fn a_pods_token_that_comes_late_is_used_at_once() {
    let lab = Lab::start().await;
    // A token service that refuses everybody.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sts = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new()).await });
    let options = ExchangeOptions {
        sts: Endpoint::parse(&sts).unwrap(),
        audience: "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/pool/providers/k8s"
            .parse()
            .unwrap(),
        impersonate: None,
    };
    let own = str::to_owned;
    let pod = PodToken::new(own("pod default/web-1"), own("default"), own("web"));
    let token = SubjectToken::Pod(pod.clone());
    let exchange = Exchange::new(
        &options,
        &Roots::none(),
        Arc::new(ManualClock::new(now())),
        {
            let token = token.clone();
            Arc::new(move || vec![token.clone()])
        },
    );
    let identity = Identity::Reflected(exchange.unwrap());
    let client = CasClient::new(&lab.endpoint, identity).unwrap();
    let site = Site::with(lab, client);
    let assignment = Assignment {
        caller: Caller::Workload(token),
        ..site.assignment("web-1")
    };
    let id = site.volumes.publish(assignment).unwrap();
    let status = site.until(&id, |status| status.failures > 0).await;
    let said = status.last_error.unwrap();
    assert!(
        said.contains("the token of pod default/web-1: it is not known yet"),
        "{said}"
    );
    assert!(!status.is_hopeless);

    pod.set(&Token::new(token_lab::token("web", 0)), now())
        .unwrap();
    site.volumes.hasten(&id);
    let status = site.until(&id, |status| status.failures > 1).await;
    let said = status.last_error.unwrap();
    assert!(
        said.contains("the token of pod default/web-1 is not exchanged"),
        "{said}"
    );
    site.stop().await;
}
