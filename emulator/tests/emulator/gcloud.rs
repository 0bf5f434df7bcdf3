//! gcloud's own requests, and what they are answered.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use certagent_emulator::EmulatorConfig;
use rcgen::CertificateParams;
use serde_json::Value;

use crate::support::*;

const REQUESTS: &str = include_str!("../golden/gcloud_requests.txt");

/// What the requests refer to, as it came up.
#[derive(Default)]
struct Seen {
    requests: u32,
    operations: Vec<String>,
    csr: String,
    certificate: String,
    chain: Value,
}

impl Seen {
    /// The request with everything filled in that was left open.
    fn fill(&mut self, text: &str) -> String {
        let mut text = text
            .replace("/projects/P", "/projects/demo-project")
            .replace("projects/P/", "projects/demo-project/")
            .replace("locations/L", "locations/us-central1")
            .replace("<CSR>", &escaped(&self.csr))
            .replace("<CERTIFICATE>", &escaped(&self.certificate))
            .replace("\"<CHAIN>\"", &self.chain.to_string())
            .replace("<KEY>", &base64(key().public_key_pem()));
        while text.contains("UUID4") {
            self.requests += 1;
            text = text.replacen("UUID4", &uuid(self.requests), 1);
        }
        // The greater numbers first: operation-1 begins operation-10, too.
        for (index, name) in self.operations.iter().enumerate().rev() {
            let id = name.rsplit('/').next().unwrap();
            text = text.replace(&format!("operation-{}?", index + 1), &format!("{id}?"));
        }
        text
    }

    fn look_at(&mut self, answer: &Value) {
        let text = |field: &str| answer[field].as_str().map(str::to_owned);
        if let Some(name) = text("name").filter(|_| answer["done"] == false) {
            self.operations.push(name);
        }
        if let Some(csr) = text("pemCsr").filter(|_| answer.get("name").is_none()) {
            self.csr = csr;
        }
        if let Some(certificate) = text("pemCertificate") {
            self.certificate = certificate;
            self.chain = answer["pemCertificateChain"].clone();
            self.csr = own_csr();
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\n', "\\n")
}

fn own_csr() -> String {
    let params = CertificateParams::new(["a.example.com".to_owned()]).unwrap();
    let csr = params.serialize_request(key()).unwrap().pem().unwrap();
    csr.replace("\r\n", "\n")
}

/// Random values by names, the same one by the same name. The clock stands still, so dates stay.
#[derive(Default)]
struct Masks(BTreeMap<String, String>);

impl Masks {
    fn mask(&mut self, field: &str, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    self.mask(name, value);
                }
            }
            Value::Array(items) => {
                for item in items {
                    self.mask(field, item);
                }
            }
            Value::String(text) => *text = self.masked(field, text),
            _ => {}
        }
    }

    fn masked(&mut self, field: &str, text: &str) -> String {
        if let Some(label) = text.strip_prefix("-----BEGIN ") {
            let label = label.split("-----").next().unwrap();
            assert!(text.ends_with("-----\n"), "{text}");
            return self.name(label, text);
        }
        let random = matches!(field, "hexSerialNumber" | "keyId" | "sha256Hash" | "key");
        if random || (field == "etag" && text != "ACAB") {
            return self.name(field, text);
        }
        if let Some((before, id)) = text.split_once("/operations/operation-") {
            return format!("{before}/operations/{}", self.name("operation", id));
        }
        // A DEVOPS certificate is named by its serial, a published file by its CA's content id.
        let mut out = text.to_owned();
        for part in text.split(|c: char| !c.is_ascii_alphanumeric()) {
            if part.len() == 32 && part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                out = out.replace(part, &self.name("id", part));
            }
        }
        out
    }

    fn name(&mut self, kind: &str, text: &str) -> String {
        let number = self
            .0
            .values()
            .filter(|name| name.starts_with(&format!("<{kind} ")))
            .count();
        let name = format!("<{kind} {}>", number + 1);
        self.0.entry(text.to_owned()).or_insert(name).clone()
    }
}

#[tokio::test]
async fn gcloud_is_answered_as_it_expects() {
    let server = Server::with(EmulatorConfig::default()).await;
    let client = http1();
    let mut seen = Seen {
        csr: own_csr(),
        ..Seen::default()
    };
    let mut masks = Masks::default();
    let mut transcript = String::new();
    let mut lines = REQUESTS.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(command) = line.strip_prefix("## ") {
            writeln!(transcript, "## {command}").unwrap();
        }
        let Some((verb, path)) = line.split_once(" /").filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let body = lines
            .next_if(|line| line.starts_with('{'))
            .unwrap_or_default();
        let url = format!("http://{}/{}", server.address, seen.fill(path));
        let request = client
            .request(verb.parse().unwrap(), url)
            .header("authorization", "Bearer fake-token")
            .body(seen.fill(body));
        let answer = request.send().await.unwrap();
        let status = answer.status();
        assert_eq!(
            answer.headers()["content-type"],
            "application/json; charset=UTF-8"
        );
        let mut answer: Value = answer.json().await.unwrap();
        seen.look_at(&answer);
        masks.mask("", &mut answer);
        let path = path.split('?').next().unwrap();
        writeln!(transcript, "{verb} /{path}").unwrap();
        writeln!(transcript, "{} {answer:#}\n", status.as_u16()).unwrap();
    }
    snapbox::assert_data_eq!(transcript, snapbox::file!["../golden/gcloud_answers.txt"]);
    server.stop().await;
}
