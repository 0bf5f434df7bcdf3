//! The admin path over HTTP.

use certagent_emulator::{Fault, FaultRule, Method, Quotas, ReplayForm};
use jiff::SignedDuration;
use reqwest::{Client, Method as Verb, StatusCode};
use serde_json::{Value, json};

use crate::support::*;

struct Admin {
    server: Server,
    client: Client,
}

impl Admin {
    async fn start() -> Self {
        Self {
            server: Server::start().await,
            client: http1(),
        }
    }

    async fn send(&self, verb: Verb, path: &str, body: impl ToString) -> (StatusCode, Value) {
        let url = format!("http://{}/emulator/v1/{path}", self.server.address);
        let request = self.client.request(verb, url).body(body.to_string());
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    async fn ok(&self, verb: Verb, path: &str, body: impl ToString) -> Value {
        let (status, json) = self.send(verb, path, body).await;
        assert_eq!(status, StatusCode::OK, "{json}");
        json
    }

    async fn create(&self, n: u32) -> reqwest::Result<StatusCode> {
        let query = format!("{ISSUING}/certificates?requestId={}", uuid(n));
        let request = self.client.post(self.server.url(&query)).json(&body());
        Ok(request.send().await?.status())
    }
}

#[tokio::test]
async fn faults_are_set_seen_used_up_and_healed() {
    let admin = Admin::start().await;
    assert_eq!(
        admin.ok(Verb::GET, "faults", "").await,
        json!({ "rules": [] })
    );
    let rules = json!({ "rules": [
        { "fault": "lost-reply", "on": "CreateCertificate", "times": 2 },
        { "fault": "html", "status": 503, "forSeconds": 60 },
        { "fault": "is-ca", "percent": 10, "seed": 3 },
    ] });
    assert_eq!(admin.ok(Verb::POST, "faults", &rules).await, rules);
    admin.create(1).await.unwrap_err();
    let left = admin.ok(Verb::GET, "faults", "").await;
    assert_eq!(left["rules"][0]["times"], 1);
    admin.create(1).await.unwrap_err();
    assert_eq!(admin.create(1).await.unwrap(), 503);
    admin.server.clock.step(SignedDuration::from_secs(20));
    let left = admin.ok(Verb::GET, "faults", "").await;
    assert_eq!(left["rules"].as_array().unwrap().len(), 2);
    assert_eq!(left["rules"][0]["forSeconds"], 40);
    assert_eq!(
        admin.ok(Verb::DELETE, "faults", "").await,
        json!({ "rules": [] })
    );
    assert_eq!(admin.create(1).await.unwrap(), 200);
    admin.server.stop().await;
}

#[tokio::test]
async fn the_admin_path_meets_neither_faults_nor_quotas_and_is_not_counted() {
    let admin = Admin::start().await;
    let emulator = &admin.server.emulator;
    emulator.set_faults(vec![FaultRule::always(Fault::CloseBefore)]);
    emulator.set_quotas(Quotas::Service { retry_info: false });
    for _ in 0..500 {
        admin.ok(Verb::GET, "stats", "").await;
    }
    assert!(emulator.stats().requests.is_empty());
    admin.server.stop().await;
}

#[tokio::test]
async fn a_wrong_rule_changes_nothing_and_its_field_is_named() {
    let admin = Admin::start().await;
    let hang = FaultRule::always(Fault::Hang).on(Method::GetCaPool);
    admin.server.emulator.set_faults(vec![hang.clone()]);
    let bad = json!({ "rules": [{ "fault": "expired" }, { "fault": "lost-replies" }] });
    let (status, json) = admin.send(Verb::POST, "faults", &bad).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(json["error"]["status"], "INVALID_ARGUMENT");
    let message = json["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("rules[1].fault: \"lost-replies\" is not allowed; allowed are "));
    assert!(message.contains(" lost-reply,"), "{message}");
    assert_eq!(
        json["error"]["details"][0]["fieldViolations"][0]["field"],
        "rules[1].fault"
    );
    let (status, json) = admin
        .send(Verb::POST, "faults", " ".repeat((64 << 10) + 1))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let message = json["error"]["message"].as_str().unwrap();
    assert!(message.contains("65536 bytes"), "{message}");
    assert_eq!(admin.server.emulator.faults(), [hang]);
    admin.server.stop().await;
}

#[tokio::test]
async fn one_pool_is_away_by_a_rule_while_the_others_serve() {
    let admin = Admin::start().await;
    let name = format!("//privateca.googleapis.com/{ISSUING}");
    for pool in ["issuing-pool", ISSUING, &name] {
        let rule = json!({ "fault": "error", "code": "UNAVAILABLE", "pool": pool });
        let rules = json!({ "rules": [rule] });
        let shown = admin.ok(Verb::POST, "faults", &rules).await;
        assert_eq!(
            shown["rules"][0]["pool"],
            pool.trim_start_matches("//privateca.googleapis.com/")
        );
        let get = async |path: &str| {
            let answer = admin.client.get(admin.server.url(path)).send().await;
            answer.unwrap().status().as_u16()
        };
        assert_eq!(admin.create(1).await.unwrap(), 503);
        assert_eq!(get(ISSUING).await, 503);
        assert_eq!(get(&format!("{ISSUING}/certificateAuthorities")).await, 503);
        // Another pool, and what is about no pool.
        assert_eq!(get(ROOT).await, 200);
        assert_eq!(get(&format!("{ROOT}/certificateAuthorities")).await, 200);
        assert_eq!(get("projects/p/locations/l/caPools").await, 200);
        let create = format!("{ROOT}/certificates?certificateId=a-{}", pool.len());
        let create = admin.client.post(admin.server.url(&create)).json(&body());
        assert_eq!(create.send().await.unwrap().status(), 200);
    }
    for bad in [
        "issuing-pol",
        "projects/p/locations/other/caPools/issuing-pool",
    ] {
        let rules = json!({ "rules": [{ "fault": "hang" }, { "fault": "hang", "pool": bad }] });
        let (status, json) = admin.send(Verb::POST, "faults", &rules).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let text =
            format!("rules[1].pool: there is no CA pool {bad:?}; there are {ISSUING}, {ROOT}.");
        assert_eq!(json["error"]["message"], text);
        assert_eq!(admin.server.emulator.faults().len(), 1, "nothing changes");
    }
    admin.ok(Verb::DELETE, "faults", "").await;
    assert_eq!(admin.create(1).await.unwrap(), 200);
    admin.server.stop().await;
}

#[tokio::test]
async fn quotas_and_replays_are_set_and_seen() {
    let admin = Admin::start().await;
    let emulator = &admin.server.emulator;
    assert_eq!(
        admin.ok(Verb::GET, "quotas", "").await,
        json!({ "quotas": "off" })
    );
    let on = json!({ "quotas": "service", "retryInfo": true });
    assert_eq!(admin.ok(Verb::PUT, "quotas", &on).await, on);
    assert_eq!(emulator.quotas(), Quotas::Service { retry_info: true });
    // The words of --quotas, and what they mean there.
    for (word, retry_info) in [("service-without-retry-info", false), ("service", true)] {
        let words = json!({ "quotas": word });
        admin.ok(Verb::PUT, "quotas", &words).await;
        assert_eq!(emulator.quotas(), Quotas::Service { retry_info });
    }
    let form = json!({ "form": "already-exists" });
    admin.ok(Verb::PUT, "replays", &form).await;
    assert_eq!(emulator.replay_form(), ReplayForm::AlreadyExists);
    let seen = admin.ok(Verb::GET, "replays", "").await;
    assert_eq!(seen["form"], "already-exists");
    assert_eq!(admin.create(1).await.unwrap(), 200);
    assert_eq!(admin.create(1).await.unwrap(), 409);
    for (path, body, field, text) in [
        (
            "quotas",
            json!({}),
            "quotas",
            "\"off\", \"service\" or \"service-without-retry-info\"",
        ),
        (
            "quotas",
            json!({ "quotas": "on" }),
            "quotas",
            "off, service",
        ),
        (
            "quotas",
            json!({ "quotas": "off", "retryInfo": true }),
            "retryInfo",
            "\"service\" only",
        ),
        (
            "quotas",
            json!({ "quotas": "service", "retryInfo": 1 }),
            "retryInfo",
            "true or false",
        ),
        (
            "quotas",
            json!({ "quotas": "service", "rate": 1 }),
            "rate",
            "allowed are quotas, retryInfo",
        ),
        ("replays", json!({}), "form", "without-certificate"),
        (
            "replays",
            json!({ "form": "none" }),
            "form",
            "allowed are same-certificate, already-exists, without-certificate",
        ),
    ] {
        let (status, json) = admin.send(Verb::PUT, path, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        let message = json["error"]["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("{field}: ")), "{message}");
        assert!(message.contains(text), "{message}");
    }
    assert_eq!(emulator.quotas(), Quotas::Service { retry_info: true });
    admin.server.stop().await;
}

#[tokio::test]
async fn the_catalogue_and_the_counts_can_be_read_and_nothing_else_is_there() {
    let admin = Admin::start().await;
    let catalogue = admin.ok(Verb::GET, "faults/catalogue", "").await;
    let faults = catalogue["faults"].as_array().unwrap();
    assert_eq!(faults.len(), Fault::catalogue().len());
    let html = faults.iter().find(|fault| fault["name"] == "html").unwrap();
    assert_eq!(html["parameters"][0]["name"], "status");
    assert_eq!(html["parameters"][0]["minimum"], 200);
    assert_eq!(html["parameters"][0]["default"], 502);
    let fields = catalogue["fields"].as_array().unwrap();
    let names: Vec<&Value> = fields.iter().map(|field| &field["name"]).collect();
    let expected = [
        "fault",
        "on",
        "pool",
        "times",
        "forSeconds",
        "percent",
        "seed",
    ];
    assert_eq!(names, expected);
    assert_eq!(fields[5]["maximum"], 100);
    let methods = catalogue["methods"].as_array().unwrap();
    assert!(methods.contains(&json!("FetchCaCerts")));

    for n in [1, 1, 2] {
        assert_eq!(admin.create(n).await.unwrap(), 200);
    }
    assert_eq!(
        admin.ok(Verb::GET, "stats", "").await,
        json!({
            "sold": { ISSUING: 2 },
            "soldTotal": 2,
            "replayed": 1,
            "requests": { "CreateCertificate": 3 },
            "quotaRefused": 0,
            "lastSerials": admin.server.emulator.sold_serials(),
        })
    );
    for (verb, path) in [
        (Verb::PUT, "faults"),
        (Verb::DELETE, "quotas"),
        (Verb::POST, "stats"),
        (Verb::GET, ""),
        (Verb::GET, "faults/"),
    ] {
        let (status, json) = admin.send(verb, path, "{}").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let message = json["error"]["message"].as_str().unwrap();
        assert!(message.contains("GET and PUT quotas"), "{message}");
    }
    admin.server.stop().await;
}
