use std::path::Path;

use crate::{Credentials, FileProblem, read};

/// As the runtime prints what `main` gives back.
fn printed(error: impl std::error::Error + 'static) -> String {
    let error: Box<dyn std::error::Error> = Box::new(error);
    assert_eq!(format!("{error:?}"), error.to_string());
    format!("{error:?}")
}

#[test]
fn what_main_gives_back_is_printed_as_a_message() {
    let nowhere = Path::new("/nowhere");
    for text in [
        printed(Credentials::open(nowhere).unwrap_err()),
        printed(read(nowhere).unwrap_err()),
    ] {
        assert!(text.starts_with("/nowhere does not exist; "), "{text}");
    }
    assert_eq!(
        format!("{:?}", FileProblem::Missing),
        FileProblem::Missing.to_string()
    );
}

#[cfg(feature = "rustls")]
#[test]
fn a_rule_that_is_none_is_printed_as_a_message() {
    let text = printed(crate::authorize::id("spiffe://td.example").unwrap_err());
    assert!(text.contains("authorize::trust_domains"), "{text}");
    let text = printed(crate::Error::NoProvider);
    assert!(text.contains("install_default"), "{text}");
}
