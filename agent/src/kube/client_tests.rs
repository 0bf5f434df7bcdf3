use std::fs;

use super::*;

async fn error(text: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    fs::write(&path, text).unwrap();
    let error = client(Some(&path)).await.err().unwrap().to_string();
    assert!(error.contains(path.to_str().unwrap()), "{error}");
    error
}

fn file(user: &str) -> String {
    format!(
        "\
apiVersion: v1
kind: Config
current-context: lab
contexts:
- name: lab
  context: {{cluster: lab, user: lab}}
clusters:
- name: lab
  cluster: {{server: 'https://127.0.0.1:6443'}}
users:
- name: lab
  user: {user}
"
    )
}

#[tokio::test]
async fn a_kubeconfig_that_is_missing_or_wrong_is_named_with_the_reason() {
    let missing = client(Some(Path::new("/nowhere/kubeconfig"))).await;
    let missing = missing.err().unwrap().to_string();
    assert!(missing.contains("/nowhere/kubeconfig"), "{missing}");
    assert!(missing.contains("No such file"), "{missing}");

    assert!(error("[").await.contains("--kubeconfig"));
    let other = file("{token: x}").replace("current-context: lab", "current-context: other");
    assert!(error(&other).await.contains("context"));
}

#[tokio::test]
async fn a_good_kubeconfig_gives_a_client_without_a_word_to_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    fs::write(&path, file("{token: x}")).unwrap();
    let client = client(Some(&path)).await.unwrap();
    assert_eq!(client.default_namespace(), "default");
}

#[tokio::test]
async fn credentials_that_cannot_be_used_are_told_without_being_shown() {
    let text = error(&file(
        "{client-certificate-data: c2VjcmV0, client-key-data: c2VjcmV0}",
    ))
    .await;
    assert!(text.contains("credentials"), "{text}");
    assert!(
        !text.contains("c2VjcmV0") && !text.contains("secret"),
        "{text}"
    );
}

#[tokio::test]
async fn outside_of_a_pod_the_next_step_is_named() {
    let text = client(None).await.err().unwrap().to_string();
    assert!(text.contains("--kubeconfig"), "{text}");
    assert!(text.contains("service account"), "{text}");
}

#[tokio::test]
async fn a_person_s_kubeconfig_is_taken_where_it_was_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    fs::write(&path, file("{token: x}")).unwrap();
    let client = persons_client(Some(&path)).await.unwrap();
    assert_eq!(client.default_namespace(), "default");
    let missing = persons_client(Some(Path::new("/nowhere/kubeconfig"))).await;
    let missing = missing.err().unwrap().to_string();
    assert!(missing.contains("/nowhere/kubeconfig"), "{missing}");
}
