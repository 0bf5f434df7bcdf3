//! What is known of each of the two objects, for whoever tells it at the objects themselves.
use std::collections::BTreeMap;

use certagent_core::{
    conditions::InForce,
    config::{Problem, Source},
};

use super::object::{Stamp, kind, stamp};
use crate::kube::Kind;

/// An object that is there, and what the rules say of it.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedObject {
    /// Which object, as opposed to one of the same name before or after it.
    pub uid: String,
    /// Which form of it.
    pub generation: i64,
    /// Everything that is wrong with it, warnings included.
    pub problems: Vec<Problem>,
    /// Which form of it is active now.
    pub in_force: InForce,
}

/// Every object among the sources that were looked at. `in_force` is what the active
/// configuration was made of.
pub(super) fn judge(
    looked_at: &[Source],
    problems: &[Problem],
    in_force: &[Source],
) -> BTreeMap<Kind, JudgedObject> {
    let active: BTreeMap<Kind, Option<Stamp>> = in_force
        .iter()
        .filter_map(|source| Some((kind(source)?, stamp(source))))
        .collect();
    let judged = |source: &Source| {
        let (kind, Stamp { uid, generation }) = (kind(source)?, stamp(source)?);
        let of_it = problems.iter().filter(|one| one.file == source.name);
        let in_force = match active.get(&kind) {
            None => InForce::Nothing,
            Some(Some(active)) if active.uid == uid && active.generation == generation => {
                InForce::This
            }
            Some(Some(active)) if active.uid == uid => InForce::Generation(active.generation),
            Some(_) => InForce::Earlier,
        };
        let judged = JudgedObject {
            uid,
            generation,
            problems: of_it.cloned().collect(),
            in_force,
        };
        Some((kind, judged))
    };
    looked_at.iter().filter_map(judged).collect()
}
