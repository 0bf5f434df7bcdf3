use std::os::unix::fs::symlink;

use certagent_core::config::{WorkloadSpec, WorkloadVolumeSpec};
use tempfile::TempDir;

use super::*;
use crate::config::fixture::Objects;

fn files(paths: &[&Path]) -> ConfigFiles {
    ConfigFiles::new(
        paths.iter().map(|path| path.to_path_buf()).collect(),
        Settings::default(),
    )
}

fn names(files: &ConfigFiles) -> Vec<String> {
    let base = |source: Source| source.name.rsplit('/').next().unwrap().to_owned();
    files.read().unwrap().into_iter().map(base).collect()
}

#[test]
fn a_directory_is_its_yaml_and_json_files_by_name_and_nothing_hidden_or_below() {
    let dir = TempDir::new().unwrap();
    for name in [
        "b.yml",
        "a.yaml",
        "c.json",
        "notes.txt",
        ".a.yaml.swp",
        ".hidden.yaml",
    ] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    fs::create_dir(dir.path().join("below.yaml")).unwrap();
    assert_eq!(names(&files(&[dir.path()])), ["a.yaml", "b.yml", "c.json"]);
}

#[test]
fn a_config_map_is_read_through_its_links() {
    let dir = TempDir::new().unwrap();
    let generation = dir.path().join("..2026_01_01");
    fs::create_dir(&generation).unwrap();
    fs::write(generation.join("a.yaml"), "text").unwrap();
    symlink("..2026_01_01", dir.path().join("..data")).unwrap();
    symlink("..data/a.yaml", dir.path().join("a.yaml")).unwrap();
    let sources = files(&[dir.path()]).read().unwrap();
    assert_eq!(sources.len(), 1);
    assert_eq!(sources[0].text, "text");
}

#[test]
fn a_file_that_is_given_twice_is_read_once() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a.yaml");
    fs::write(&file, Objects::default().yaml()).unwrap();
    let found = files(&[dir.path(), &file]).load();
    assert_eq!(found.sources.len(), 1);
    assert_eq!(found.problems, []);
}

#[test]
fn each_path_that_cannot_be_read_is_one_clear_problem() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("empty")).unwrap();
    fs::write(path("large.yaml"), vec![b'#'; MAX_BYTES + 1]).unwrap();
    fs::write(path("binary.yaml"), b"kind: \xff").unwrap();
    symlink("nowhere", path("dangling.yaml")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path("pipe.yaml"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    for (name, expected) in [
        ("missing.yaml", "no such file or directory"),
        ("dangling.yaml", "no such file or directory"),
        ("empty", "has no file whose name ends in .yaml"),
        ("large.yaml", "larger than 1048576 bytes"),
        ("binary.yaml", "not UTF-8 text at byte 6"),
        ("pipe.yaml", "neither a file nor a directory"),
    ] {
        let found = files(&[&path(name)]).load();
        assert_eq!(found.config, None);
        let [problem] = &found.problems[..] else {
            panic!("{name}: {:?}", found.problems)
        };
        assert_eq!(problem.file, path(name).display().to_string());
        assert!(problem.message.contains(expected), "{problem}");
    }
}

#[test]
fn what_is_wrong_in_readable_files_is_reported_beside_a_missing_one() {
    let dir = TempDir::new().unwrap();
    let (file, missing) = (dir.path().join("a.yaml"), dir.path().join("b.yaml"));
    fs::write(
        &file,
        Objects {
            window: 100,
            ..Objects::default()
        }
        .yaml(),
    )
    .unwrap();
    let found = files(&[&file, &missing]).load();
    let fields: Vec<_> = found
        .problems
        .iter()
        .map(|problem| problem.field.as_deref())
        .collect();
    assert_eq!(fields, [None, Some("spec.rotationWindowPercentage")]);
}

#[test]
fn relative_volumes_and_token_files_start_at_the_directory_of_their_file() {
    let dir = TempDir::new().unwrap();
    let objects = Objects::default().yaml();
    let objects = objects.replacen("  volume:", "  tokenFile: tokens/a\n  volume:", 1);
    fs::write(dir.path().join("a.yaml"), objects).unwrap();
    let config = files(&[dir.path()]).load().config.unwrap();
    let expected = |path| dir.path().join(path).display().to_string();
    assert_eq!(config.workloads[0].volume.path, expected("volumes/a"));
    assert_eq!(config.workloads[0].token_file, Some(expected("tokens/a")));
}

#[test]
fn the_volume_of_the_command_line_starts_at_the_working_directory() {
    let dir = TempDir::new().unwrap();
    fs::write(
        dir.path().join("a.yaml"),
        Objects {
            workloads: &[],
            ..Objects::default()
        }
        .yaml(),
    )
    .unwrap();
    let settings = Settings {
        workload: Some(WorkloadSpec {
            namespace: Some("default".to_owned()),
            service_account: Some("web".to_owned()),
            volume: Some(WorkloadVolumeSpec {
                path: Some("volume".to_owned()),
                ..WorkloadVolumeSpec::default()
            }),
            ..WorkloadSpec::default()
        }),
        ..Settings::default()
    };
    let found = ConfigFiles::new(vec![dir.path().to_owned()], settings).load();
    let config = found.config.unwrap();
    let expected = std::env::current_dir()
        .unwrap()
        .join("volume")
        .display()
        .to_string();
    assert_eq!(config.workloads[0].volume.path, expected);
}
