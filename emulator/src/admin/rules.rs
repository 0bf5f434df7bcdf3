//! Fault rules as JSON, by the catalogue.

use jiff::SignedDuration;
use serde_json::{Map, Value, json};

use super::fields::{Fields, error, shown};
use crate::errors::ApiError;
use crate::faults::fields::{FAULT, FOR_SECONDS, ON, PERCENT, POOL, SEED, TIMES};
use crate::faults::{
    Allowed, Arguments, CatalogueEntry, Extent, Fault, FaultRule, Method, Parameter, PoolSelector,
    Preset,
};
use crate::pool::PoolName;
use crate::route::is_about_a_pool;

/// How many rules may be in force at once.
const MOST_RULES: usize = 64;
/// How many pools an error names.
const MOST_POOLS: usize = 10;

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
    let pool = pool(&mut fields, on)?;
    let times = number(&mut fields, &TIMES)?;
    let seconds = number(&mut fields, &FOR_SECONDS)?;
    let percent = number(&mut fields, &PERCENT)?;
    let seed = number(&mut fields, &SEED)?;
    let extent = match (times, seconds) {
        (Some(times), None) => Extent::Next(u32::try_from(times).unwrap_or(u32::MAX)),
        (None, Some(seconds)) => Extent::During(SignedDuration::from_secs(
            i64::try_from(seconds).unwrap_or(i64::MAX),
        )),
        (None, None) => Extent::Always,
        (Some(_), Some(_)) => {
            return Err(fields.error(FOR_SECONDS.name, "a rule has times or forSeconds, not both"));
        }
    };
    if percent.is_none() && seed.is_some() {
        return Err(fields.error(SEED.name, "it goes with percent only"));
    }
    let arguments = arguments(&mut fields, entry)?;
    fields.end()?;
    let mut rule = FaultRule::new(entry.make(&arguments), extent);
    rule.on = on;
    rule.pool = pool;
    if let Some(percent) = percent.and_then(|percent| u8::try_from(percent).ok()) {
        rule = rule.share(percent, seed.unwrap_or_default());
    }
    Ok(rule)
}

fn entry(fields: &mut Fields) -> Result<&'static CatalogueEntry, ApiError> {
    let names: Vec<&str> = Fault::catalogue().iter().map(|entry| entry.name).collect();
    let name = fields.word(FAULT.name, &names)?;
    let entry = Fault::catalogue()
        .iter()
        .find(|entry| Some(entry.name) == name);
    entry.ok_or_else(|| {
        let names = names.join(", ");
        fields.error(FAULT.name, &format!("it is missing; allowed are {names}"))
    })
}

/// The method that a rule is for. A fault of the certificate befalls nothing but creates.
fn method(fields: &mut Fields, entry: &CatalogueEntry) -> Result<Option<Method>, ApiError> {
    let names: Vec<&str> = if entry.is_about_certificates() {
        vec![Method::CreateCertificate.name()]
    } else {
        Method::ALL.iter().map(|method| method.name()).collect()
    };
    Ok(fields.word(ON.name, &names)?.and_then(Method::by_name))
}

/// The pool that a rule is for. A rule that could befall nothing is a mistake.
fn pool(fields: &mut Fields, on: Option<Method>) -> Result<Option<PoolSelector>, ApiError> {
    let Some(value) = given(fields, &POOL)? else {
        return Ok(None);
    };
    let text = value.as_str().unwrap_or_default();
    let selector = text
        .parse()
        .map_err(|error| fields.error(POOL.name, &format!("{}: {error}", shown(&value))))?;
    if let Some(method) = on.filter(|method| !is_about_a_pool(*method)) {
        let method = method.name();
        let problem = format!("{method} is about no pool; leave it out, or say another method");
        return Err(fields.error(POOL.name, &problem));
    }
    Ok(Some(selector))
}

/// Refuses rules for a pool that there is not: most likely it is misspelt.
pub(super) fn check_pools(rules: &[FaultRule], pools: &[PoolName]) -> Result<(), ApiError> {
    for (at, rule) in rules.iter().enumerate() {
        let Some(selector) = &rule.pool else { continue };
        if pools.iter().any(|pool| selector.selects(pool)) {
            continue;
        }
        let mut known: Vec<String> = pools.iter().map(PoolName::to_string).collect();
        let more = known.len().saturating_sub(MOST_POOLS);
        known.truncate(MOST_POOLS);
        let there = match (known.as_slice(), more) {
            ([], _) => "there are no pools yet; make it first".to_owned(),
            (known, 0) => format!("there are {}", known.join(", ")),
            (known, more) => format!("there are {} and {more} more", known.join(", ")),
        };
        let selector = shown(&selector.to_string().into());
        return Err(error(
            &format!("rules[{at}].{}", POOL.name),
            &format!("there is no CA pool {selector}; {there}"),
        ));
    }
    Ok(())
}

fn arguments(fields: &mut Fields, entry: &CatalogueEntry) -> Result<Arguments, ApiError> {
    let mut arguments = Arguments::default();
    for parameter in entry.parameters {
        let given = given(fields, parameter)?;
        if let Some(value) = given.or_else(|| parameter.preset.map(preset)) {
            arguments.0.insert(parameter.name.to_owned(), value);
        }
    }
    Ok(arguments)
}

/// What is given for a parameter, if it is one of the allowed values.
fn given(fields: &mut Fields, parameter: &Parameter) -> Result<Option<Value>, ApiError> {
    let name = parameter.name;
    Ok(match parameter.allowed {
        Allowed::Number { least, most } => fields.number(name, (least, most))?.map(Value::from),
        Allowed::Text { most } => fields.text(name, most)?.map(Value::from),
        Allowed::OneOf(words) => fields.word(name, words)?.map(Value::from),
    })
}

fn number(fields: &mut Fields, parameter: &Parameter) -> Result<Option<u64>, ApiError> {
    Ok(given(fields, parameter)?.and_then(|value| value.as_u64()))
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
    set(FAULT.name, rule.fault.name().into());
    if let Some(on) = rule.on {
        set(ON.name, on.name().into());
    }
    if let Some(pool) = &rule.pool {
        set(POOL.name, pool.to_string().into());
    }
    match rule.extent {
        Extent::Next(times) => set(TIMES.name, times.into()),
        Extent::During(span) => {
            let started = i64::from(span.subsec_nanos() > 0);
            set(
                FOR_SECONDS.name,
                span.as_secs().saturating_add(started).into(),
            );
        }
        Extent::Always => {}
    }
    if let Some(share) = rule.share {
        set(PERCENT.name, share.percent.into());
        set(SEED.name, share.seed.into());
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
    let fields: Vec<Value> = FaultRule::fields().iter().map(show_parameter).collect();
    let methods: Vec<&str> = Method::ALL.iter().map(|method| method.name()).collect();
    json!({ "fields": fields, "faults": faults, "methods": methods })
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
