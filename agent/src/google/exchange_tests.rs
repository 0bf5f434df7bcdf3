use std::fs;

use axum::http::StatusCode;
use futures::future::join_all;
use serde_json::json;

use super::*;
use crate::google::token_lab::{ACCOUNT, AGENT, TokenLab, caller, token};

#[tokio::test]
async fn each_file_has_its_own_access_token_and_a_new_token_in_it_counts_at_once() {
    let bench = TokenLab::new().await;
    let (web, till) = (bench.write("web", 0), bench.write("till", 0));
    assert_eq!(bench.token(&web).await, "federated-1");
    assert_eq!(bench.token(&till).await, "federated-2");
    bench.write("web", 1);
    assert_eq!(bench.token(&web).await, "federated-3");
    assert_eq!(bench.token(&till).await, "federated-2");
    assert!(bench.sent.lock().unwrap()[2].2.contains(&token("web", 1)));
}

#[tokio::test]
async fn an_access_token_is_replaced_four_minutes_before_its_end_or_an_eighth_of_its_life() {
    for (lifetime, fresh) in [(json!(3600), 3360), (json!("3600"), 3360), (json!(80), 70)] {
        let bench = TokenLab::new().await;
        let body = json!({ "access_token": "a", "expires_in": lifetime }).to_string();
        bench.answer(move |_, _| (StatusCode::OK, vec![], body.clone()));
        let web = bench.write("web", 0);
        bench.token(&web).await;
        bench.step(fresh - 1);
        bench.token(&web).await;
        assert_eq!(bench.requests(), 1, "{lifetime}");
        bench.step(1);
        bench.token(&web).await;
        assert_eq!(bench.requests(), 2, "{lifetime}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_say_how_long_it_is_good_is_used_once() {
    for lifetime in [json!(null), json!("soon"), json!(-5), json!([])] {
        let bench = TokenLab::new().await;
        let body = json!({ "access_token": "a", "expires_in": lifetime }).to_string();
        bench.answer(move |_, _| (StatusCode::OK, vec![], body.clone()));
        let web = bench.write("web", 0);
        bench.token(&web).await;
        bench.token(&web).await;
        assert_eq!(bench.requests(), 2, "{lifetime}");
    }
}

#[tokio::test]
async fn many_who_ask_at_once_are_served_by_one_exchange() {
    let bench = TokenLab::new().await;
    let web = bench.write("web", 0);
    let tokens = join_all((0..20).map(|_| bench.token(&web))).await;
    assert!(
        tokens.iter().all(|token| token == "federated-1"),
        "{tokens:?}"
    );
    assert_eq!(bench.requests(), 1);

    // And by one failure.
    bench.refuse(503, "unavailable");
    bench.write("web", 1);
    bench.step(7200);
    join_all((0..20).map(|_| bench.error(&web))).await;
    assert_eq!(bench.requests(), 2);
}

#[tokio::test]
async fn a_service_that_asks_to_be_left_alone_is_left_alone() {
    let bench = TokenLab::new().await;
    let web = bench.write("web", 0);
    bench.answer(|_, _| {
        let headers = vec![("retry-after", "90".to_owned())];
        (StatusCode::SERVICE_UNAVAILABLE, headers, String::new())
    });
    let wait = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(bench.error(&web).await.retry_after, wait(90));
    bench.step(30);
    assert_eq!(bench.error(&web).await.retry_after, wait(60));
    assert_eq!(bench.requests(), 1);
    bench.step(60);
    bench.heal();
    bench.token(&web).await;
    assert_eq!(bench.requests(), 2);
}

#[tokio::test]
async fn a_file_without_a_token_is_told_and_looked_at_again_each_time() {
    let bench = TokenLab::new().await;
    let web = caller(&bench.path("web"));
    let missing = bench.error(&web).await;
    assert!(missing.to_string().contains("no such file"), "{missing}");
    fs::write(bench.path("web"), "").unwrap();
    let empty = bench.error(&web).await;
    assert!(empty.to_string().contains("it is empty"), "{empty}");
    assert!(!missing.is_permanent && !empty.is_permanent);
    bench.write("web", 0);
    assert_eq!(bench.token(&web).await, "federated-1");
    // The file's token ends a day after noon, and nobody writes another.
    bench.step(86_400);
    let expired = bench.error(&web).await;
    assert!(expired.to_string().contains("expired 0 s ago"), "{expired}");
    assert_eq!(bench.requests(), 1);
}

#[tokio::test]
async fn a_token_that_was_refused_is_not_shown_again_at_once_but_a_new_one_is() {
    let bench = TokenLab::new().await;
    let web = bench.write("web", 0);
    bench.refuse(400, "invalid_grant");
    let first = bench.error(&web).await;
    assert_eq!(bench.error(&web).await, first);
    assert_eq!(bench.requests(), 1);
    bench.heal();
    bench.write("web", 1);
    assert_eq!(bench.token(&web).await, "federated-2");

    // A clock that is set back a day does not make the rest a day long.
    bench.refuse(400, "invalid_grant");
    bench.write("web", 2);
    bench.error(&web).await;
    bench.step(-86_000);
    bench.heal();
    bench.token(&web).await;
}

#[tokio::test]
async fn through_an_outage_the_token_in_use_serves_to_its_end_and_recovery_needs_no_restart() {
    let bench = TokenLab::new().await;
    let web = bench.write("web", 0);
    let first = bench.token(&web).await;
    bench.refuse(503, "unavailable");
    // Whoever keeps the file fresh goes on meanwhile.
    bench.write("web", 1);
    for second in 0..3600 {
        assert_eq!(bench.token(&web).await, first, "after {second} s");
        bench.step(1);
    }
    // At most one attempt every five seconds, and a few more at the beginning.
    assert!(bench.requests() < 1 + 3600 / 5 + 5, "{}", bench.requests());
    for _ in 0..10 {
        assert!(!bench.error(&web).await.is_permanent);
        bench.step(360);
    }
    bench.heal();
    bench.step(5);
    assert_ne!(bench.token(&web).await, first);
}

#[tokio::test]
async fn the_token_in_use_serves_nobody_else_and_nobody_who_was_refused() {
    let bench = TokenLab::new().await;
    let web = bench.write("web", 0);
    bench.token(&web).await;
    bench.refuse(503, "unavailable");
    // Another service account's token in the same file.
    fs::write(bench.path("web"), token("till", 0)).unwrap();
    bench.error(&web).await;

    bench.step(60);
    bench.refuse(400, "invalid_grant");
    bench.write("web", 1);
    assert!(bench.error(&web).await.is_permanent);
}

#[tokio::test]
async fn the_agent_speaks_as_the_first_workload_that_can() {
    let bench = TokenLab::new().await;
    let none = bench.error(AGENT).await;
    assert!(
        none.to_string().contains("a Workload with a tokenFile"),
        "{none}"
    );

    bench.workload("first");
    bench.workload("second");
    fs::remove_file(bench.path("first")).unwrap();
    assert_eq!(bench.token(AGENT).await, "federated-1");
    assert_eq!(bench.token(AGENT).await, "federated-1");
    assert!(
        bench.sent.lock().unwrap()[0]
            .2
            .contains(&token("second", 0))
    );

    // The second is refused, too: told is what is wrong with the first.
    bench.refuse(400, "invalid_grant");
    bench.write("second", 1);
    let error = bench.error(AGENT).await.to_string();
    assert!(error.contains("first: no such file"), "{error}");
}

#[tokio::test]
async fn a_search_for_a_workload_that_can_ends_when_it_leads_nowhere() {
    let bench = TokenLab::new().await;
    for number in 0..20 {
        bench.workload(&format!("w{number}"));
    }
    bench.refuse(503, "unavailable");
    bench.error(AGENT).await;
    assert_eq!(bench.requests(), 1);
    bench.step(60);
    bench.refuse(400, "invalid_grant");
    bench.error(AGENT).await;
    assert_eq!(bench.requests(), 1 + MOST_REFUSED);
    // The next search goes on where this one ended.
    bench.heal();
    bench.token(AGENT).await;
    let sent = bench.sent.lock().unwrap();
    assert!(sent.last().unwrap().2.contains(&token("w4", 0)));
}

#[tokio::test]
async fn an_access_token_that_ca_service_refuses_is_not_used_again() {
    let bench = TokenLab::with(Some(ACCOUNT), Timeouts::default()).await;
    let web = bench.workload("web");
    let refused = bench.exchange.token(&web).await.unwrap();
    bench.exchange.refused(&refused);
    assert_eq!(bench.token(&web).await, "federated-2");
    // An old refusal that comes late changes nothing.
    bench.exchange.refused(&refused);
    assert_eq!(bench.token(&web).await, "federated-2");

    let refused = bench.exchange.token(AGENT).await.unwrap();
    bench.exchange.refused(&refused);
    assert_eq!(bench.token(AGENT).await, "account-4");
}
