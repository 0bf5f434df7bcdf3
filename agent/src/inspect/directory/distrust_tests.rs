//! Roots that are not to be trusted, still published.
use std::fs;

use certagent_svid::{Certificate, layout};

use super::{
    super::Verdict,
    fixture::{Leaf, NOON, Volume, at, contents, contents_with},
    report::CheckId,
    tests::expect,
};
use crate::trust::{Distrust, Fingerprint};

#[test]
fn a_published_root_that_is_distrusted_is_a_problem_with_what_the_agent_does_about_it() {
    let whole = contents();
    let roots = Certificate::parse_pem_list(whole.roots.as_bytes()).unwrap();
    let distrust: Distrust = roots.iter().map(Fingerprint::of).collect();
    let mapped = Volume::swapped(&whole);
    fs::remove_file(mapped.file(layout::CA_CERTIFICATES)).unwrap();
    for (volume, name) in [
        (Volume::swapped(&whole), layout::CA_CERTIFICATES),
        (mapped, layout::TRUST_BUNDLES),
    ] {
        let report = super::inspect(volume.path(), at(NOON), None, &distrust);
        expect(&report, Verdict::Problem, CheckId::Roots);
        let text = report.to_text();
        let begin = format!("{name} holds \"CN=");
        let sha256 = Fingerprint::of(&roots[0]).to_string();
        for part in [
            "PROBLEM: a root that is not to be trusted is published",
            begin.as_str(),
            sha256.as_str(),
            "which --distrust names, and no other root: the agent leaves the files as they are",
            "certagent inspect config",
        ] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
    }
    let other: Distrust = ["ab".repeat(32).parse().unwrap()].into_iter().collect();
    let volume = Volume::swapped(&whole);
    let report = super::inspect(volume.path(), at(NOON), None, &other);
    assert_ne!(report.verdict(), Verdict::Problem, "{}", report.to_text());
    // Beside another root it is one that should be gone.
    let two = contents_with(&Leaf::default(), "Other Root", (2035, 12, 31));
    volume.write(
        layout::CA_CERTIFICATES,
        format!("{}{}", whole.roots, two.roots),
    );
    let report = super::inspect(volume.path(), at(NOON), None, &distrust);
    expect(&report, Verdict::Problem, CheckId::Roots);
    assert!(
        report.to_text().contains("takes out at once"),
        "{}",
        report.to_text()
    );
}
