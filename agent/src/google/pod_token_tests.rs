use axum::http::StatusCode;
use serde_json::json;

use super::*;
use crate::google::{
    Caller, SubjectToken,
    subject::tests::jwt,
    token_lab::{AGENT, TokenLab, noon, token},
};

fn web() -> PodToken {
    let owned = str::to_owned;
    PodToken::new(owned("pod default/web-1"), owned("default"), owned("web"))
}

fn caller(pod: &PodToken) -> Caller {
    Caller::Workload(SubjectToken::Pod(pod.clone()))
}

fn text(text: String) -> Token {
    Token::new(text)
}

#[test]
fn what_is_no_token_of_the_pod_is_refused_and_the_one_before_it_stays() {
    let pod = web();
    pod.set(&text(token("web", 0)), noon()).unwrap();
    let of = |sub: &str| jwt(&json!({ "sub": sub, "jti": "SECRET" }));
    let long = "a".repeat(253);
    for (refused, reason) in [
        (
            String::new(),
            "the token of pod default/web-1: what came is no token",
        ),
        ("SECRET".to_owned(), "what came is no token"),
        ("SECRET".repeat(4000), "what came is no token"),
        (jwt(&json!({ "jti": "SECRET" })), "it is of nobody, not of"),
        (
            token("till", 0),
            "it is of system:serviceaccount:default:till, not of system:serviceaccount:default:web; ",
        ),
        (
            of("system:serviceaccount:default:web:x"),
            "default:web:x, not of",
        ),
        (of("system:serviceaccount:other:web"), "other:web, not of"),
        (of(&format!("system:serviceaccount:default:{long}")), &long),
        (
            jwt(&json!({ "sub": "system:serviceaccount:default:web",
                "exp": noon().as_second() - 9, "jti": "SECRET" })),
            "it expired 9 s ago, at 2026-11-21T11:59:51Z; kubelet",
        ),
    ] {
        let error = pod.set(&text(refused), noon()).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(reason), "{said}");
        assert!(!format!("{said} {error:?} {pod:?}").contains("SECRET"));
        let subject = pod.subject(noon()).unwrap();
        assert_eq!(subject.token.expose(), token("web", 0));
    }
}

#[test]
fn the_longest_names_of_kubernetes_are_compared_whole() {
    let (namespace, account) = ("n".repeat(63), "s".repeat(253));
    let pod = PodToken::new("pod n/p".to_owned(), namespace.clone(), account.clone());
    let of = |account: &str| {
        let sub = format!("system:serviceaccount:{namespace}:{account}");
        text(jwt(&json!({ "sub": sub })))
    };
    pod.set(&of(&account), noon()).unwrap();
    let other = format!("{}x", &account[1..]);
    pod.set(&of(&other), noon()).unwrap_err();
}

#[tokio::test]
async fn a_pods_token_is_exchanged_like_a_files_and_a_newer_one_counts_at_once() {
    let bench = TokenLab::new().await;
    let pod = web();
    let unknown = bench.error(&caller(&pod)).await;
    assert!(!unknown.is_permanent);
    let said = unknown.to_string();
    assert!(
        said.starts_with(
            "no access token: the token of pod default/web-1: it is not known yet: kubelet brings \
             it with its next publish, within 60 to 90 s"
        ),
        "{said}"
    );
    assert!(!said.contains("tokenFile"), "{said}");

    pod.set(&text(token("web", 0)), noon()).unwrap();
    assert_eq!(bench.token(&caller(&pod)).await, "federated-1");
    assert_eq!(bench.token(&caller(&pod)).await, "federated-1");
    pod.set(&text(token("web", 1)), noon()).unwrap();
    assert_eq!(bench.token(&caller(&pod)).await, "federated-2");
    assert!(bench.sent.lock().unwrap()[1].2.contains(&token("web", 1)));

    bench.step(86_400);
    let expired = bench.error(&caller(&pod)).await;
    assert!(
        expired.to_string().contains("it expired 0 s ago"),
        "{expired}"
    );
    assert!(!expired.is_permanent);
    assert_eq!(bench.requests(), 2);
}

#[tokio::test]
async fn two_pods_of_one_name_share_nothing() {
    let bench = TokenLab::new().await;
    let (old, new) = (web(), web());
    assert_ne!(old, new);
    old.set(&text(token("web", 0)), noon()).unwrap();
    bench.token(&caller(&old)).await;
    bench.error(&caller(&new)).await;
    assert_eq!(bench.requests(), 1);
}

#[tokio::test]
async fn the_agent_speaks_as_the_first_pod_that_has_a_token() {
    let bench = TokenLab::new().await;
    let (first, second) = (web(), web());
    second.set(&text(token("web", 7)), noon()).unwrap();
    let pods = [first, second].map(SubjectToken::Pod);
    bench.tokens.lock().unwrap().extend(pods);
    assert_eq!(bench.token(AGENT).await, "federated-1");
    assert!(bench.sent.lock().unwrap()[0].2.contains(&token("web", 7)));
}

#[tokio::test]
async fn what_is_refused_is_told_of_the_pod_and_where_its_audience_is_set() {
    let bench = TokenLab::new().await;
    let pod = web();
    pod.set(&text(token("web", 0)), noon()).unwrap();
    bench.answer(|_, _| {
        let body = json!({ "error": "invalid_grant", "error_description": "no" });
        (StatusCode::BAD_REQUEST, vec![], body.to_string())
    });
    let said = bench.error(&caller(&pod)).await.to_string();
    assert!(
        said.contains("the token of pod default/web-1 is not exchanged"),
        "{said}"
    );
    assert!(
        said.contains("tokenRequests of the CSIDriver object"),
        "{said}"
    );
    let shown = bench.exchange.shown(&caller(&pod)).to_string();
    assert_eq!(
        shown,
        "the exchanged identity of the token of pod default/web-1"
    );
}

#[tokio::test]
async fn nothing_is_kept_of_a_pod_that_is_gone() {
    let bench = TokenLab::new().await;
    let gone = web();
    gone.set(&text(token("web", 0)), noon()).unwrap();
    bench.token(&caller(&gone)).await;
    let watched = Arc::downgrade(&gone.0);
    drop(gone);
    let next = web();
    next.set(&text(token("web", 1)), noon()).unwrap();
    bench.token(&caller(&next)).await;
    assert!(watched.upgrade().is_none());
}
