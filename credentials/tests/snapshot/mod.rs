//! Files of `testdata/credentials` that must say what is so.
use std::path::Path;

/// Compares with a file, or writes it anew with `CERTAGENT_UPDATE_GOLDEN=1`.
pub(crate) fn same(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata/credentials")
        .join(file);
    if std::env::var_os("CERTAGENT_UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let changes: Vec<String> = there
        .lines()
        .filter(|line| !text.lines().any(|new| new == *line))
        .map(|gone| format!("- {gone}"))
        .chain(
            text.lines()
                .filter(|line| !there.lines().any(|old| old == *line))
                .map(|new| format!("+ {new}")),
        )
        .collect();
    assert!(
        there == text,
        "{file} is not what is so any more; read the difference, then CERTAGENT_UPDATE_GOLDEN=1:\n{}",
        changes.join("\n")
    );
}
