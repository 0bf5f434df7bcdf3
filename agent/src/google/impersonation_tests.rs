use axum::http::StatusCode;

use super::*;
use crate::google::token_lab::{ACCOUNT, AGENT, TokenLab, good};

#[tokio::test]
async fn a_token_that_ended_before_it_came_is_told_with_the_clock_and_not_used() {
    let bench = TokenLab::with(Some(ACCOUNT), Timeouts::default()).await;
    bench.workload("web");
    for (ends, expected) in [
        (
            "2026-11-21T11:00:00Z",
            "ended 3600 s ago by this machine's clock, at 2026-11-21T11",
        ),
        ("", "no usable access token"),
    ] {
        bench.answer(move |path, number| {
            let answer = json!({ "accessToken": "account-secret", "expireTime": ends });
            let is_sts = path == "/v1/token";
            let body = if is_sts {
                good(path, number)
            } else {
                answer.to_string()
            };
            (StatusCode::OK, vec![], body)
        });
        let error = bench.error(AGENT).await;
        let shown = error.to_string();
        assert!(
            shown.contains(expected) && shown.contains(ACCOUNT),
            "{shown}"
        );
        assert!(!shown.contains("secret") && !error.is_permanent, "{shown}");
        bench.heal();
        bench.step(60);
    }
}

#[test]
fn the_account_is_read_from_the_url_of_a_file_and_nothing_else_is() {
    let service = "https://iamcredentials.googleapis.com";
    for (path, account) in [
        (
            "/v1/projects/-/serviceAccounts/a@p.iam.gserviceaccount.com:generateAccessToken",
            "a@p.iam.gserviceaccount.com",
        ),
        (
            "/v1/projects/p/serviceAccounts/1234567:generateAccessToken",
            "1234567",
        ),
    ] {
        let target = Target::of_url(&format!("{service}{path}")).unwrap();
        assert_eq!(
            (target.path.as_str(), target.account.as_str()),
            (path, account)
        );
        assert_eq!(target.endpoint.to_string(), service);
    }
    for text in [
        "",
        "//x",
        "http://10.0.0.1/v1/projects/-/serviceAccounts/a:generateAccessToken",
        "https://x/v1/projects/-/serviceAccounts/:generateAccessToken",
        "https://x/v1/projects/-/serviceAccounts/a:generateIdToken",
        "https://x/v1/projects/-/serviceAccounts/a/b:generateAccessToken",
        "https://x/v1/projects/-/serviceAccounts/a:generateAccessToken?x=1",
    ] {
        assert_eq!(Target::of_url(text), None, "{text}");
    }
}
