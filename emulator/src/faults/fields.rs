//! What every rule takes, whatever its fault is: as [`Parameter`]s, like those of the faults.

use super::catalogue::{CATALOGUE, YEAR_IN_SECONDS, number};
use super::{Allowed, FaultRule, Method, Parameter};

const FAULTS: [&str; CATALOGUE.len()] = {
    let mut names = [""; CATALOGUE.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = CATALOGUE[at].name;
        at += 1;
    }
    names
};

const METHODS: [&str; Method::ALL.len()] = {
    let mut names = [""; Method::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = Method::ALL[at].name();
        at += 1;
    }
    names
};

pub(crate) const FAULT: Parameter = Parameter {
    name: "fault",
    summary: "What happens: the name of a fault. Every rule has it.",
    allowed: Allowed::OneOf(&FAULTS),
    preset: None,
};

pub(crate) const ON: Parameter = Parameter {
    name: "on",
    summary: "The one method whose requests it befalls; without it, all. Faults of the certificate befall CreateCertificate alone.",
    allowed: Allowed::OneOf(&METHODS),
    preset: None,
};

pub(crate) const POOL: Parameter = Parameter {
    name: "pool",
    summary: "The one CA pool whose requests it befalls, those about its CAs and certificates included: its id, or projects/PROJECT/locations/LOCATION/caPools/POOL. Without it, all requests.",
    allowed: Allowed::Text { most: 512 },
    preset: None,
};

pub(crate) const TIMES: Parameter = number(
    "times",
    "How many requests it befalls before it ends; without it and forSeconds, the rule stays.",
    (1, u32::MAX as u64),
    None,
);

pub(crate) const FOR_SECONDS: Parameter = number(
    "forSeconds",
    "How long it stays, in seconds by the emulator's clock; not with times.",
    (1, YEAR_IN_SECONDS),
    None,
);

pub(crate) const PERCENT: Parameter = number(
    "percent",
    "How many of a hundred requests it befalls; without it, each one.",
    (0, 100),
    None,
);

pub(crate) const SEED: Parameter = number(
    "seed",
    "What the draws for percent follow from, 0 without it: they are the same in every run.",
    (0, u64::MAX),
    None,
);

const FIELDS: &[Parameter] = &[FAULT, ON, POOL, TIMES, FOR_SECONDS, PERCENT, SEED];

impl FaultRule {
    /// The fields that every rule takes over HTTP, beside the parameters of its fault.
    pub fn fields() -> &'static [Parameter] {
        FIELDS
    }
}
