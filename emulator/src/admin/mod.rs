//! The admin path: faults, quotas, replays and counts over HTTP, on the same port as the service.
//!
//! ```text
//! GET    /emulator/v1/faults            the rules in force, each with what is left of it
//! POST   /emulator/v1/faults            {"rules": [RULE, …]} replaces them all
//! DELETE /emulator/v1/faults            heals everything
//! GET    /emulator/v1/faults/catalogue  what every rule takes, every fault and its parameters
//! GET    /emulator/v1/quotas            and PUT {"quotas": "off" | "service" | "service-without-retry-info"}
//! GET    /emulator/v1/replays           and PUT {"form": FORM}
//! GET    /emulator/v1/stats             what was signed, replayed, asked and refused
//! ```
//! Faults, quotas and permissions never meet these requests, and nothing counts them. Who can reach
//! the port can use them.

mod fields;
mod rules;

use axum::body::{Body, to_bytes};
use axum::http::{Method as Verb, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use crate::emulator::Emulator;
use crate::errors::ApiError;
use crate::idempotency::ReplayForm;
use crate::pool::PoolName;
use crate::quota::Quotas;
use crate::rest::{error_response, json_bytes};
use fields::Fields;

/// How the paths begin.
pub(crate) const PREFIX: &str = "/emulator/v1/";

/// The largest body that is read, in bytes.
const BODY_LIMIT: usize = 64 << 10;

/// How many of the last serials the counts name.
const LAST_SERIALS: usize = 20;

/// The paths with their verbs.
const PATHS: &str = "GET, POST and DELETE faults; GET faults/catalogue; GET and PUT quotas; GET \
                     and PUT replays; GET stats";

/// Answers a request for what stands behind [`PREFIX`].
pub(crate) async fn answer(emulator: &Emulator, verb: &Verb, path: &str, body: Body) -> Response {
    let answer = match to_bytes(body, BODY_LIMIT).await {
        Ok(body) => respond(emulator, verb, path, &body),
        Err(_error) => Err(ApiError::invalid(format!(
            "The body is over {BODY_LIMIT} bytes, or it broke off."
        ))),
    };
    match answer {
        Ok(json) => json_bytes(StatusCode::OK, json.to_string().into_bytes()),
        Err(error) => error_response(&error),
    }
}

fn respond(emulator: &Emulator, verb: &Verb, path: &str, body: &[u8]) -> Result<Value, ApiError> {
    match (verb.as_str(), path) {
        ("GET", "faults") => Ok(rules::show(&emulator.faults())),
        ("POST", "faults") => {
            let rules = rules::parse(body)?;
            let pools: Vec<PoolName> = emulator.pools().map(|(name, _)| name).collect();
            rules::check_pools(&rules, &pools)?;
            emulator.set_faults(rules);
            Ok(rules::show(&emulator.faults()))
        }
        ("DELETE", "faults") => {
            emulator.set_faults(Vec::new());
            Ok(rules::show(&[]))
        }
        ("GET", "faults/catalogue") => Ok(rules::catalogue()),
        ("GET", "quotas") => Ok(show_quotas(emulator.quotas())),
        ("PUT", "quotas") => {
            emulator.set_quotas(parse_quotas(body)?);
            Ok(show_quotas(emulator.quotas()))
        }
        ("GET", "replays") => Ok(show_form(emulator.replay_form())),
        ("PUT", "replays") => {
            emulator.set_replay_form(parse_form(body)?);
            Ok(show_form(emulator.replay_form()))
        }
        ("GET", "stats") => Ok(show_stats(emulator)),
        _ => Err(ApiError::not_here(PREFIX, PATHS)),
    }
}

fn parse_quotas(body: &[u8]) -> Result<Quotas, ApiError> {
    let mut fields = Fields::of_body(body)?;
    let quotas = fields.word("quotas", &["off", "service", "service-without-retry-info"])?;
    let retry_info = fields.flag("retryInfo")?;
    match (quotas, retry_info) {
        (Some("service-without-retry-info"), None) => {
            fields.end()?;
            Ok(Quotas::Service { retry_info: false })
        }
        (Some("service"), told) => {
            fields.end()?;
            Ok(Quotas::Service {
                retry_info: told.unwrap_or(true),
            })
        }
        (Some(_), None) => {
            fields.end()?;
            Ok(Quotas::Off)
        }
        (Some(_), Some(_)) => Err(fields.error("retryInfo", "it goes with \"service\" only")),
        (None, _) => Err(fields.error(
            "quotas",
            "it is missing; write \"off\", \"service\" or \"service-without-retry-info\"",
        )),
    }
}

fn show_quotas(quotas: Quotas) -> Value {
    match quotas {
        Quotas::Off => json!({ "quotas": "off" }),
        Quotas::Service { retry_info } => json!({ "quotas": "service", "retryInfo": retry_info }),
    }
}

fn parse_form(body: &[u8]) -> Result<ReplayForm, ApiError> {
    let names = ReplayForm::ALL.map(ReplayForm::name);
    let mut fields = Fields::of_body(body)?;
    let name = fields.word("form", &names)?;
    let form = ReplayForm::ALL
        .into_iter()
        .find(|form| Some(form.name()) == name);
    let form = form.ok_or_else(|| {
        fields.error(
            "form",
            &format!("it is missing; allowed are {}", names.join(", ")),
        )
    })?;
    fields.end()?;
    Ok(form)
}

fn show_form(form: ReplayForm) -> Value {
    json!({ "form": form.name(), "forms": ReplayForm::ALL.map(ReplayForm::name) })
}

fn show_stats(emulator: &Emulator) -> Value {
    let stats = emulator.stats();
    let sold: serde_json::Map<String, Value> = stats
        .sold
        .iter()
        .map(|(pool, count)| (pool.to_string(), (*count).into()))
        .collect();
    let requests: serde_json::Map<String, Value> = stats
        .requests
        .iter()
        .map(|(method, count)| (method.name().to_owned(), (*count).into()))
        .collect();
    let serials = emulator.sold_serials();
    let last = serials.get(serials.len().saturating_sub(LAST_SERIALS)..);
    json!({
        "sold": sold,
        "soldTotal": stats.total_sold(),
        "replayed": stats.replayed,
        "requests": requests,
        "quotaRefused": stats.quota_refused,
        "lastSerials": last.unwrap_or_default(),
    })
}
