//! Texts that are kept in `golden/`.
use std::{fs, path::PathBuf};

/// Compares a text with its file; with `CERTAGENT_UPDATE_GOLDEN` set it writes the file instead.
pub(super) fn compare(name: &str, extension: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("src/inspect/golden")
        .join(format!("{name}.{extension}"));
    if std::env::var_os("CERTAGENT_UPDATE_GOLDEN").is_some() {
        fs::write(&path, actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{}", path.display());
}
