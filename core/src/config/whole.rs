//! What can be said only with all objects at hand.

use std::collections::BTreeMap;

use certagent_svid::TrustDomain;

use super::objects::{FoundWorkload, Reading};
use super::policy::{Config, Workload};
use super::problem::FieldProblem;
use super::report::Place;
use super::rule::Rule;
use super::{Loaded, Settings, Source, domains};

/// Puts the objects together, or says why they do not fit.
pub(super) fn assemble(
    mut reading: Reading<'_>,
    sources: &[Source],
    settings: &Settings,
) -> Loaded {
    reading.flag_workload();
    report_missing(&mut reading, sources);
    report_doubles(&mut reading, sources);
    let domains = domains::resolve(&mut reading, settings);
    let Reading {
        report,
        certificates,
        trust,
        workloads,
        ..
    } = reading;
    let is_good = !report.has_errors();
    let spread_rotation = certificates
        .as_ref()
        .and_then(|found| found.spread_rotation);
    let policies = certificates
        .and_then(|found| found.policy)
        .zip(trust.and_then(|found| found.policy))
        .filter(|_| is_good);
    let config = policies.map(|(certificates, trust)| Config {
        certificates,
        spread_rotation,
        trust,
        workloads: workloads
            .into_iter()
            .zip(domains)
            .map(|(found, trust_domain)| workload(found, trust_domain, sources))
            .collect(),
    });
    Loaded {
        problems: report.finish(),
        config,
    }
}

fn workload(found: FoundWorkload, trust_domain: TrustDomain, sources: &[Source]) -> Workload {
    let source = source_name(found.place, sources).to_owned();
    Workload {
        name: found.name,
        source,
        trust_domain,
        namespace: found.declared.namespace,
        service_account: found.declared.service_account,
        token_file: found.declared.token_file,
        names: found.declared.names,
        on_rotate: found.declared.on_rotate,
        volume: found.declared.volume,
    }
}

fn source_name(place: Place, sources: &[Source]) -> &str {
    place
        .source
        .and_then(|index| sources.get(index))
        .map_or("", |source| source.name.as_str())
}

/// One problem for each of the two objects that is nowhere.
fn report_missing(reading: &mut Reading<'_>, sources: &[Source]) {
    if reading.is_incomplete {
        return;
    }
    let place = match sources {
        [_] => Place {
            source: Some(0),
            ..Place::NOWHERE
        },
        _ => Place::NOWHERE,
    };
    let searched = match sources {
        [] => "no file was given".to_owned(),
        [one] => format!("looked in {}", one.name),
        [first, .., last] => {
            format!(
                "looked in {} files, {} to {}",
                sources.len(),
                first.name,
                last.name
            )
        }
    };
    let objects = [
        (
            reading.certificates.is_none(),
            "WorkloadCertificateConfig",
            "which CA pool issues",
        ),
        (
            reading.trust.is_none(),
            "TrustConfig",
            "which roots are trusted",
        ),
    ];
    for (_, kind, purpose) in objects.into_iter().filter(|(is_missing, ..)| *is_missing) {
        let message = format!(
            "there is no {kind}, which says {purpose}; {searched}. Add it, or name its file too; \
             `certagent quickstart` writes one to start from"
        );
        reading
            .report
            .error(Rule::MissingObject, place, None, &message);
    }
}

/// Workloads with the same name or the same volume.
fn report_doubles(reading: &mut Reading<'_>, sources: &[Source]) {
    let mut names: BTreeMap<&str, Place> = BTreeMap::new();
    let mut paths: BTreeMap<String, &FoundWorkload> = BTreeMap::new();
    for found in &reading.workloads {
        let object = format!("Workload/{}", found.name);
        if let Some(first) = names.get(found.name.as_str()) {
            let first = reading.report.show(*first);
            let message = format!("another workload has this name at {first}; rename one");
            let problem = FieldProblem::error(Rule::InvalidWorkload, "metadata.name", message);
            reading.report.field(found.place, Some(&object), problem);
        } else {
            names.insert(&found.name, found.place);
        }
        let source = source_name(found.place, sources);
        let path = plain_path(source, &found.declared.volume.path);
        if let Some(first) = paths.get(&path) {
            let message = format!(
                "this directory is already the volume of {} at {}; give each workload its own",
                first.name,
                reading.report.show(first.path_place)
            );
            let problem = FieldProblem::error(Rule::InvalidWorkload, "spec.volume.path", message);
            reading
                .report
                .field(found.path_place, Some(&object), problem);
        } else {
            paths.insert(path, found);
        }
    }
}

/// `path`, starting at the directory of `source`, without `.`, `..`, and double slashes: as text,
/// without looking at any file.
fn plain_path(source: &str, path: &str) -> String {
    let directory = source
        .rsplit_once('/')
        .map_or("", |(directory, _)| directory);
    let is_from_source = !path.starts_with('/');
    let is_absolute = !is_from_source || source.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    let before = if is_from_source { directory } else { "" };
    for part in before.split('/').chain(path.split('/')) {
        match (part, parts.last()) {
            ("" | ".", _) => {}
            ("..", Some(&last)) if last != ".." => {
                parts.pop();
            }
            ("..", None) if is_absolute => {}
            _ => parts.push(part),
        }
    }
    format!("{}{}", if is_absolute { "/" } else { "" }, parts.join("/"))
}
