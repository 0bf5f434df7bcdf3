//! Which generations stay, and until when. Pure.
use certagent_svid::layout;
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

/// How long a generation stays after it was replaced, so that a reader that pinned it finishes.
pub const KEPT_FOR: SignedDuration = SignedDuration::from_secs(60);

/// The most generations that a volume holds at any time, the newest included.
pub const MAX_GENERATIONS: usize = 3;

/// A generation in a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: String,
    /// The directory's mtime: rises strictly with every swap, even if the clock does not.
    pub(super) modified: Timestamp,
}

/// The generations of a volume, told apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Generations {
    /// Replaced ones, oldest first, each with the end of its time.
    pub(super) replaced: Vec<(String, Timestamp)>,
    /// Never published: a crash came in between.
    pub(super) leftover: Vec<String>,
}

impl Generations {
    /// Sorts what was found around the `current` generation, that `..data` points to.
    pub(super) fn sort(mut found: Vec<Found>, current: Option<&str>) -> Self {
        found.sort_by(|a, b| (a.modified, &a.name).cmp(&(b.modified, &b.name)));
        let Some(position) = found
            .iter()
            .position(|one| Some(one.name.as_str()) == current)
        else {
            // Nothing is published, so nothing of it can be read.
            let leftover = found.into_iter().map(|one| one.name).collect();
            return Self {
                replaced: Vec::new(),
                leftover,
            };
        };
        let leftover = found
            .split_off(position + 1)
            .into_iter()
            .map(|one| one.name)
            .collect();
        let mut ends: Vec<Timestamp> = found.iter().skip(1).map(end_of_predecessor).collect();
        // A clock that was stepped back must not let an older one outlive a newer one.
        for index in (1..ends.len()).rev() {
            ends[index - 1] = ends[index - 1].min(ends[index]);
        }
        let replaced = found.into_iter().map(|one| one.name).zip(ends).collect();
        Self { replaced, leftover }
    }

    /// The replaced generations that must go now; `room` more are about to be made.
    pub(super) fn overdue(&self, now: Timestamp, room: usize) -> impl Iterator<Item = &str> {
        let allowed = MAX_GENERATIONS.saturating_sub(1 + room);
        let surplus = self.replaced.len().saturating_sub(allowed);
        self.replaced
            .iter()
            .enumerate()
            .filter(move |(index, (_, end))| *index < surplus || *end <= now)
            .map(|(_, (name, _))| name.as_str())
    }

    /// When, after `now`, the next replaced generation has to go.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        self.replaced
            .iter()
            .map(|(_, end)| *end)
            .filter(|end| *end > now)
            .min()
    }
}

fn end_of_predecessor(one: &Found) -> Timestamp {
    swapped_at(one)
        .saturating_add(KEPT_FOR)
        .unwrap_or(Timestamp::MAX)
}

/// When a generation was published. Its name says so; the mtime may have been pushed ahead.
fn swapped_at(one: &Found) -> Timestamp {
    moment_of(&one.name).unwrap_or(one.modified)
}

/// The moment in a name of our own. Kubelet's names end in something else than nanoseconds.
fn moment_of(name: &str) -> Option<Timestamp> {
    let (stamp, nanoseconds) = name.strip_prefix("..")?.split_once('.')?;
    let nanoseconds = (nanoseconds.len() == 9).then(|| nanoseconds.parse().ok())??;
    let civil = DateTime::strptime("%Y_%m_%d_%H_%M_%S", stamp).ok()?;
    let second = civil.to_zoned(TimeZone::UTC).ok()?.timestamp();
    second
        .checked_add(SignedDuration::from_nanos(nanoseconds))
        .ok()
}

/// A name for a generation made at `now` that is not `taken`: a clock that stands or was stepped
/// back gives the same moment twice.
pub(super) fn free_name(now: Timestamp, taken: &[String]) -> String {
    let shift = |by: usize| {
        let by = SignedDuration::from_nanos(i64::try_from(by).unwrap_or_default());
        now.checked_add(by)
            .or_else(|_end_of_time| now.checked_sub(by))
            .unwrap_or(now)
    };
    (0..=taken.len())
        .map(|by| layout::generation_name(shift(by)))
        .find(|name| !taken.contains(name))
        .unwrap_or_else(|| layout::generation_name(now))
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
