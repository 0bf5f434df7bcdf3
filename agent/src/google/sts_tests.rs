use std::sync::atomic::Ordering;

use axum::http::StatusCode;
use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::google::token_lab::{ACCOUNT, AGENT, TokenLab, exchange, good, refusal, token};

#[tokio::test]
async fn a_token_file_is_exchanged_by_one_post_and_the_answer_kept() {
    let bench = TokenLab::new().await;
    let web = bench.write("web", 0);
    assert_eq!(bench.token(&web).await, "federated-1");
    assert_eq!(bench.token(&web).await, "federated-1");
    let sent = bench.sent.lock().unwrap().clone();
    let [(path, header, body)] = sent.as_slice() else {
        panic!("{sent:?}");
    };
    assert_eq!((path.as_str(), header.as_str()), ("/v1/token", ""));
    assert_eq!(
        *body,
        format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
             &audience=%2F%2Fiam.googleapis.com%2Fprojects%2F123%2Flocations%2Fglobal\
             %2FworkloadIdentityPools%2Fpool%2Fproviders%2Fk8s\
             &scope=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fcloud-platform\
             &requested_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token\
             &subject_token={}\
             &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt",
            token("web", 0)
        )
    );
}

/// Answers that are no tokens: status, body, whether it stays so, and what is said of them.
type Refusal = (u16, String, bool, &'static [&'static str]);

fn refusals(secret: &str) -> Vec<Refusal> {
    let quoted = json!({ "error": "invalid_grant",
        "error_description": format!("Unable to parse {secret}\u{1b}[2J, or {}", &secret[60..]) });
    let google = json!({ "error": { "code": 403, "status": "PERMISSION_DENIED",
        "message": "Security Token Service API has not been used" } });
    vec![
        (
            400,
            quoted.to_string(),
            true,
            &[
                "HTTP 400, \"invalid_grant: Unable to parse (left out)",
                "the token is for the audience \"demo.svc.id.goog\" and of the issuer \
                 \"https://issuer.example\": compare both, and the keys of the issuer, with what the provider of //iam",
            ],
        ),
        (
            400,
            refusal("invalid_target"),
            true,
            &["HTTP 400, \"invalid_target: no\"; compare --sts-audience //iam.googleapis.com"],
        ),
        (
            400,
            refusal("invalid_request"),
            true,
            &["invalid_request", "compare --sts-audience"],
        ),
        (
            401,
            String::new(),
            true,
            &["HTTP 401; the token is for the audience"],
        ),
        (
            403,
            google.to_string(),
            true,
            &[
                "HTTP 403, \"PERMISSION_DENIED: Security Token Service API has not",
                "check that the Security Token Service API is enabled",
            ],
        ),
        (
            404,
            "<html>not here</html>".into(),
            true,
            &["HTTP 404, \"<html>not here", "check --sts-endpoint"],
        ),
        (
            307,
            String::new(),
            true,
            &["HTTP 307; check --sts-endpoint"],
        ),
        (429, refusal("quota"), false, &["a quota is used up"]),
        (
            500,
            refusal("internal"),
            false,
            &["HTTP 500", "asked again by itself"],
        ),
        (503, String::new(), false, &["HTTP 503; it is asked again"]),
        (
            504,
            "null".into(),
            false,
            &["HTTP 504, \"null\"; it is asked again"],
        ),
        (
            200,
            "<html>SECRET</html>".into(),
            false,
            &["no usable access token", "in between"],
        ),
        (200, "{}".into(), false, &["no usable access token"]),
        (
            200,
            json!({ "access_token": "SECRET\n", "expires_in": 60 }).to_string(),
            false,
            &["no usable access token"],
        ),
        (
            200,
            json!({ "access_token": ["SECRET"] }).to_string(),
            false,
            &["no usable access token"],
        ),
        (
            200,
            " ".repeat(70_000),
            false,
            &["more than 64 KiB", "in between"],
        ),
        (500, "x".repeat(1_000_000), false, &["HTTP 500"]),
    ]
}

#[tokio::test]
async fn a_refusal_is_told_with_its_cause_and_next_step_and_without_the_token() {
    let bench = TokenLab::new().await;
    let web = bench.write("web", 0);
    let secret = token("web", 0);
    for (status, body, is_permanent, texts) in refusals(&secret) {
        bench.answer(move |_, _| (StatusCode::from_u16(status).unwrap(), vec![], body.clone()));
        let error = bench.error(&web).await;
        let shown = error.to_string();
        let begin = format!(
            "no access token: the token in {} is not",
            bench.path("web").display()
        );
        assert!(shown.starts_with(&begin), "{shown}");
        for text in texts {
            assert!(shown.contains(text), "no {text:?} in {shown}");
        }
        assert_eq!(error.is_permanent, is_permanent, "{shown}");
        let all = format!("{error:?} {:?}", bench.exchange);
        assert!(!all.contains("SECRET"), "{all}");
        assert!(shown.chars().all(|c| !c.is_control()), "{shown:?}");
        for piece in secret.as_bytes().windows(12) {
            assert!(!all.contains(str::from_utf8(piece).unwrap()), "{all}");
        }
        bench.step(60);
    }
}

#[tokio::test]
async fn nobody_there_and_no_answer_are_for_now() {
    let timeouts = Timeouts {
        attempt: Duration::from_millis(50),
        ..Timeouts::default()
    };
    let bench = TokenLab::with(None, timeouts).await;
    let web = bench.write("web", 0);
    bench.hangs.store(true, Ordering::SeqCst);
    let error = bench.error(&web).await;
    assert!(
        !error.is_permanent && error.to_string().contains("no answer within 50ms"),
        "{error}"
    );

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = Endpoint::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let exchange = exchange(
        &nobody,
        None,
        Timeouts::default(),
        &bench.clock,
        &bench.tokens,
    );
    let error = exchange.token(&web).await.unwrap_err();
    let shown = error.to_string();
    assert!(!error.is_permanent, "{shown}");
    assert!(
        shown.contains(&nobody.to_string()) && shown.contains("Connection refused"),
        "{shown}"
    );
}

#[tokio::test]
async fn with_impersonation_the_agent_is_the_service_account_and_workloads_stay_themselves() {
    let bench = TokenLab::with(Some(ACCOUNT), Timeouts::default()).await;
    let web = bench.workload("web");
    assert_eq!(bench.token(AGENT).await, "account-2");
    assert_eq!(bench.token(AGENT).await, "account-2");
    assert_eq!(bench.token(&web).await, "federated-1");
    {
        let sent = bench.sent.lock().unwrap();
        let (path, header, body) = &sent[1];
        assert_eq!(
            *path,
            format!("/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken")
        );
        assert_eq!(header, "Bearer federated-1");
        assert_eq!(
            serde_json::from_str::<Value>(body).unwrap(),
            json!({ "scope": ["https://www.googleapis.com/auth/cloud-platform"], "lifetime": "3600s" })
        );
        assert_eq!(sent.len(), 2);
    }
    bench.step(3360);
    assert_eq!(bench.token(AGENT).await, "account-4");
}

#[tokio::test]
async fn an_impersonation_that_is_refused_names_the_account_the_role_and_no_token() {
    let bench = TokenLab::with(Some(ACCOUNT), Timeouts::default()).await;
    bench.workload("web");
    for (status, is_permanent, advice) in [
        (
            403,
            true,
            "roles/iam.workloadIdentityUser on reader@demo-project.iam",
        ),
        (404, true, "check --impersonate"),
        (
            401,
            true,
            "check --iamcredentials-endpoint and --impersonate",
        ),
        (500, false, "asked again by itself"),
    ] {
        bench.answer(move |path, number| {
            if path == "/v1/token" {
                let answer = good(path, number).replace("federated", "federated-secret");
                return (StatusCode::OK, vec![], answer);
            }
            let message = format!("federated-secret-{} may not", number - 1);
            let body = json!({ "error": { "status": "NO", "message": message } });
            (
                StatusCode::from_u16(status).unwrap(),
                vec![],
                body.to_string(),
            )
        });
        let error = bench.error(AGENT).await;
        let shown = error.to_string();
        assert!(shown.contains(ACCOUNT) && shown.contains(advice), "{shown}");
        assert!(!shown.contains("federated-secret"), "{shown}");
        assert_eq!(error.is_permanent, is_permanent, "{shown}");
        bench.step(60);
    }
}
