//! Fault rules as JSON, by the catalogue.

use jiff::SignedDuration;
use serde_json::{Map, Value, json};

use super::fields::{Fields, error, shown};
use crate::errors::ApiError;
use crate::faults::{
    Allowed, Arguments, CatalogueEntry, Extent, Fault, FaultRule, Method, Parameter, Preset,
};

/// How many rules may be in force at once.
const MOST_RULES: usize = 64;
/// The longest that a rule for a while lasts: a year.
const MOST_SECONDS: u64 = 365 * 24 * 3600;

/// The rules of a body `{"rules": [RULE, …]}`.
pub(super) fn parse(body: &[u8]) -> Result<Vec<FaultRule>, ApiError> {
    let mut fields = Fields::of_body(body)?;
    let rules = match fields.take("rules") {
        Some(Value::Array(rules)) => rules,
        Some(other) => {
            return Err(fields.error("rules", &format!("{} is no list of rules", shown(&other))));
        }
        None => return Err(fields.error("rules", "it is missing; an empty list heals everything")),
    };
    fields.end()?;
    if rules.len() > MOST_RULES {
        let count = rules.len();
        return Err(error(
            "rules",
            &format!("{count} rules are too many; write at most {MOST_RULES}"),
        ));
    }
    let rules = rules.into_iter().enumerate();
    rules
        .map(|(at, rule)| parse_rule(Fields::of_value(format!("rules[{at}]."), rule)?))
        .collect()
}

fn parse_rule(mut fields: Fields) -> Result<FaultRule, ApiError> {
    let entry = entry(&mut fields)?;
    let on = method(&mut fields, entry)?;
    let times = fields.number("times", (1, u64::from(u32::MAX)))?;
    let seconds = fields.number("forSeconds", (1, MOST_SECONDS))?;
    let percent = fields.number("percent", (0, 100))?;
    let seed = fields.number("seed", (0, u64::MAX))?;
    let extent = match (times, seconds) {
        (Some(times), None) => Extent::Next(u32::try_from(times).unwrap_or(u32::MAX)),
        (None, Some(seconds)) => Extent::During(SignedDuration::from_secs(
            i64::try_from(seconds).unwrap_or(i64::MAX),
        )),
        (None, None) => Extent::Always,
        (Some(_), Some(_)) => {
            return Err(fields.error("forSeconds", "a rule has times or forSeconds, not both"));
        }
    };
    if percent.is_none() && seed.is_some() {
        return Err(fields.error("seed", "it goes with percent only"));
    }
    let arguments = arguments(&mut fields, entry)?;
    fields.end()?;
    let mut rule = FaultRule::new(entry.make(&arguments), extent);
    rule.on = on;
    if let Some(percent) = percent.and_then(|percent| u8::try_from(percent).ok()) {
        rule = rule.share(percent, seed.unwrap_or_default());
    }
    Ok(rule)
}

fn entry(fields: &mut Fields) -> Result<&'static CatalogueEntry, ApiError> {
    let names: Vec<&str> = Fault::catalogue().iter().map(|entry| entry.name).collect();
    let name = fields.word("fault", &names)?;
    let entry = Fault::catalogue()
        .iter()
        .find(|entry| Some(entry.name) == name);
    entry.ok_or_else(|| {
        let names = names.join(", ");
        fields.error("fault", &format!("it is missing; allowed are {names}"))
    })
}

/// The method that a rule is for. A fault of the certificate befalls nothing but creates.
fn method(fields: &mut Fields, entry: &CatalogueEntry) -> Result<Option<Method>, ApiError> {
    let names: Vec<&str> = if entry.is_about_certificates() {
        vec![Method::CreateCertificate.name()]
    } else {
        Method::ALL.iter().map(|method| method.name()).collect()
    };
    Ok(fields.word("on", &names)?.and_then(Method::by_name))
}

fn arguments(fields: &mut Fields, entry: &CatalogueEntry) -> Result<Arguments, ApiError> {
    let mut arguments = Arguments::default();
    for parameter in entry.parameters {
        let given = match parameter.allowed {
            Allowed::Number { least, most } => fields
                .number(parameter.name, (least, most))?
                .map(Value::from),
            Allowed::Text { most } => fields.text(parameter.name, most)?.map(Value::from),
            Allowed::OneOf(words) => fields.word(parameter.name, words)?.map(Value::from),
        };
        if let Some(value) = given.or_else(|| parameter.preset.map(preset)) {
            arguments.0.insert(parameter.name.to_owned(), value);
        }
    }
    Ok(arguments)
}

fn preset(preset: Preset) -> Value {
    match preset {
        Preset::Number(number) => number.into(),
        Preset::Text(text) => text.into(),
    }
}

/// Rules as [`parse`] takes them.
pub(super) fn show(rules: &[FaultRule]) -> Value {
    let rules: Vec<Value> = rules.iter().map(show_rule).collect();
    json!({ "rules": rules })
}

fn show_rule(rule: &FaultRule) -> Value {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    set("fault", rule.fault.name().into());
    if let Some(on) = rule.on {
        set("on", on.name().into());
    }
    match rule.extent {
        Extent::Next(times) => set("times", times.into()),
        Extent::During(span) => {
            let started = i64::from(span.subsec_nanos() > 0);
            set("forSeconds", span.as_secs().saturating_add(started).into());
        }
        Extent::Always => {}
    }
    if let Some(share) = rule.share {
        set("percent", share.percent.into());
        set("seed", share.seed.into());
    }
    fields.extend(rule.fault.arguments().0);
    Value::Object(fields)
}

/// The catalogue, with what every rule may say beside its fault's parameters.
pub(super) fn catalogue() -> Value {
    let faults: Vec<Value> = Fault::catalogue()
        .iter()
        .map(|entry| {
            let parameters: Vec<Value> = entry.parameters.iter().map(show_parameter).collect();
            json!({ "name": entry.name, "summary": entry.summary, "parameters": parameters })
        })
        .collect();
    let methods: Vec<&str> = Method::ALL.iter().map(|method| method.name()).collect();
    json!({ "faults": faults, "methods": methods })
}

fn show_parameter(parameter: &Parameter) -> Value {
    let mut json = json!({ "name": parameter.name, "summary": parameter.summary });
    match parameter.allowed {
        Allowed::Number { least, most } => {
            json["minimum"] = least.into();
            json["maximum"] = most.into();
        }
        Allowed::Text { most } => json["maxLength"] = most.into(),
        Allowed::OneOf(words) => json["values"] = words.into(),
    }
    if let Some(value) = parameter.preset {
        json["default"] = preset(value);
    }
    json
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
