//! The emergency switch, as whoever pulls it sees it.
use certagent::trust::Fingerprint;
use certagent_core::{algorithm::KeyAlgorithm, config::render_trust_config};
use certagent_svid::Certificate;

use crate::{
    program::{Ended, certagent, run},
    site::Site,
    volumes::files,
};

fn once_without(site: &Site, root: &Certificate) -> Ended {
    let mut command = site.once();
    run(command.args(["--distrust", &Fingerprint::of(root).to_string()]))
}

/// `certagent inspect` for the site's volume, told where the records are or not.
fn inspect(site: &Site, arguments: &[&str]) -> Ended {
    let mut command = certagent("inspect");
    run(command.arg(site.volume()).args(arguments))
}

#[test]
fn once_without_the_only_root_fails_keeps_the_files_and_names_the_way_out() {
    let site = Site::new();
    site.provide();
    let before = files(&site.volume());
    let root = site.read().roots()[0].clone();
    let sha256 = Fingerprint::of(&root).to_string();
    once_without(&site, &root).expect(1).says(&[
        "no root of demo-project.svc.id.goog is left, so nothing was asked for: --distrust names \
         every root that there is: ",
        &sha256,
        "error: 1 of 1 volume keeps all files as they were",
        "because --distrust names every root of demo-project.svc.id.goog; add an anchor with \
         another root to the TrustConfig, and a pool below it",
    ]);
    assert_eq!(files(&site.volume()), before);
    assert_eq!(site.sold().len(), 1);

    let state = site.state_dir().display().to_string();
    for arguments in [["--state-dir", &state], ["--distrust", &sha256]] {
        let said = inspect(&site, &arguments).expect(1).stdout;
        for part in [
            "PROBLEM: a root that is not to be trusted is published",
            &sha256,
            "which --distrust names, and no other root: the agent leaves the files as they are",
        ] {
            assert!(said.contains(part), "no {part:?} in {said}");
        }
    }
    // Whoever takes the flag out again has a healthy volume.
    site.provide();
    let said = inspect(&site, &["--state-dir", &state]).stdout;
    assert!(!said.contains("--distrust names"), "{said}");
    assert_eq!(files(&site.volume()), before);
}

#[test]
fn once_fails_too_where_the_certificate_alone_needs_the_dropped_root() {
    let site = Site::new();
    site.provide();
    let root = site.read().roots()[0].clone();
    let other = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let other = params.self_signed(&other).unwrap().pem();
    let pem = other.lines().collect::<Vec<_>>().join("\n        ");
    let trust = render_trust_config(&crate::site::params(KeyAlgorithm::EcdsaP256, 3600));
    site.write(
        "trust.yaml",
        &format!("{trust}    - pemCertificate: |\n        {pem}\n"),
    );
    once_without(&site, &root).expect(1).says(&[
        "which --distrust names",
        "error: 1 of 1 volume keeps a certificate and key that need a root which --distrust names",
        "name a pool below another root as endpointURI or in fallbackURIs",
    ]);
    let said = inspect(&site, &[]).expect(1).stdout;
    assert!(
        said.contains("the chain does not lead to the roots"),
        "{said}"
    );
}
