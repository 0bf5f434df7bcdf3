//! User and group names: looked up in `/etc/passwd` and `/etc/group`, as text.
//!
//! Not by the C library: a static binary in an empty image has the two files at most.
use std::{io, path::PathBuf};

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Why a user or group is not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OwnerError {
    /// No line of the file has this name.
    #[error("{path} has no {kind} \"{name}\"; correct the name, or give the number")]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The number means "unchanged" to the system.
    #[error("{id} is not the number of a {kind}; the largest is 4294967294")]
    Reserved {
        /// `user` or `group`.
        kind: &'static str,
        /// The number.
        id: u32,
    },
    /// The file cannot be read.
    #[error("cannot look up the {kind} \"{name}\" in {path}: {source}; give the number")]
    Io {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The number of a user, given by number or by name in `/etc/passwd`.
pub fn user(name: &str) -> Result<u32, OwnerError> {
    resolve("user", name, PASSWD)
}

/// The number of a group, given by number or by name in `/etc/group`.
pub fn group(name: &str) -> Result<u32, OwnerError> {
    resolve("group", name, GROUP)
}

fn resolve(kind: &'static str, name: &str, path: &str) -> Result<u32, OwnerError> {
    let id = match name.parse() {
        Ok(id) => id,
        Err(_not_a_number) => {
            let table = std::fs::read_to_string(path).map_err(|source| OwnerError::Io {
                kind,
                name: name.to_owned(),
                path: path.into(),
                source,
            })?;
            find(&table, name).ok_or_else(|| OwnerError::Unknown {
                kind,
                name: name.to_owned(),
                path: path.into(),
            })?
        }
    };
    if id == u32::MAX {
        Err(OwnerError::Reserved { kind, id })
    } else {
        Ok(id)
    }
}

/// Both files are lines of `name:password:number:...`; the first line of a name counts.
fn find(table: &str, name: &str) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        "# comment\nroot:x:0:0:root:/root:/bin/sh\nbroken:x\nenvoy:x:101:\nenvoy:x:102:\n";

    #[test]
    fn a_name_is_found_in_the_table_and_the_first_line_counts() {
        assert_eq!(find(TABLE, "root"), Some(0));
        assert_eq!(find(TABLE, "envoy"), Some(101));
        for nobody in ["", "broken", "x", "env", "101"] {
            assert_eq!(find(TABLE, nobody), None, "{nobody}");
        }
    }

    #[test]
    fn a_number_needs_no_table() {
        assert_eq!(user("4242").unwrap(), 4242);
        assert_eq!(group("0").unwrap(), 0);
    }

    #[test]
    fn the_number_that_means_unchanged_is_refused() {
        assert!(matches!(
            user("4294967295"),
            Err(OwnerError::Reserved { .. })
        ));
    }

    #[test]
    fn a_table_that_is_not_there_is_named() {
        let error = resolve("user", "envoy", "/nowhere/passwd").unwrap_err();
        assert!(error.to_string().contains("/nowhere/passwd"), "{error}");
    }

    #[test]
    fn an_unknown_name_says_where_it_was_looked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("group");
        std::fs::write(&path, TABLE).unwrap();
        let error = resolve("group", "nobody-here", path.to_str().unwrap()).unwrap_err();
        assert!(matches!(error, OwnerError::Unknown { .. }), "{error}");
        assert!(error.to_string().contains("nobody-here"), "{error}");
    }
}
